"""From the listing into the queue, and by hand back and out again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from unittest.mock import AsyncMock

import pytest
from typer.testing import CliRunner

from polyb2.cli.main import app
from polyb2.core.compare import GONE_WORDS, Change
from polyb2.core.errors import Kind, Side
from polyb2.core.keys import FileName
from polyb2.core.records import ListedObject, Mirrored
from polyb2.core.selection import EVERYTHING, Mode, Selection, named_dates
from polyb2.core.status import FAILED, Event, Status
from polyb2.core.verdict import Verdict
from polyb2.ledger.ledger import PAGE_ROWS
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered, Filter
from polyb2.signals import Deferred
from tests.conftest import DAY_AGGS, QUOTES, key
from tests.ledger.conftest import LEASE_MS, SENT, SIZE, Books, listed
from tests.ledger.places import Place, SetClock

DAY = "2024-01-02"
NEWER = listed(DAY, "b", size=40, modified=9)
UNCHARGED = {"retry_count": 0, "forbidden": 0, "parts_mark": 0, "parts_done": 0, "bytes_done": 0, "resumable": 0}


async def pending(books: Books) -> None:
    await books.discover(listed(DAY))


async def processing(books: Books) -> None:
    await books.claimed(listed(DAY))


async def completed(books: Books) -> None:
    await books.ledger.complete(await books.claimed(listed(DAY)), SENT)


async def failed(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.receive(claim, await books.begin(claim), 1)
    await books.fail(claim, Kind.FORBIDDEN)


async def permanent(books: Books) -> None:
    await books.fail(await books.claimed(listed(DAY)), Kind.UNSUPPORTED, Side.TARGET)


async def not_entitled(books: Books) -> None:
    await failed(books)
    books.clock.go_on(30)
    await books.fail(await books.claim(), Kind.FORBIDDEN)


Arrange = Callable[[Books], Awaitable[None]]
ALL: list[Arrange] = [pending, processing, completed, failed, permanent, not_entitled]
IDLE = [arrange for arrange in ALL if arrange is not processing]


async def test_new_files_are_queued_and_listed_again_change_nothing(books: Books) -> None:
    page = [listed(f"2024-01-{day:02}", size=day) for day in range(1, 31)]
    assert await books.discover(*page) == {Change.NEW: 30}
    before = books.sql("SELECT * FROM files")
    books.clock.go_on(60)
    assert await books.discover(*page) == {Change.UNCHANGED: 30}
    assert books.sql("SELECT * FROM files") == before
    row = books.row("2024-01-07")
    assert (row["key"], row["dataset"], row["date"], row["size"]) == (key("2024-01-07"), DAY_AGGS, "2024-01-07", 7)
    assert (row["status"], row["revision"], row["attempt"]) == ("pending", 1, 0)
    assert (row["dest_key"], row["mirrored_revision"]) == ("to/" + key("2024-01-07"), None)
    assert row["discovered_at_ms"] == books.clock.wall_ms() - 60_000


@pytest.mark.parametrize("arrange", ALL)
async def test_a_changed_last_modified_alone_is_noted_and_sends_nothing(books: Books, arrange: Arrange) -> None:
    await arrange(books)
    before = books.row(DAY)
    assert await books.discover(listed(DAY, modified=5)) == {Change.TOUCHED: 1}
    assert books.row(DAY) == before | {"source_last_modified_ms": 5}


@pytest.mark.parametrize("newer", [NEWER, listed(DAY, "b"), listed(DAY, "a", size=40)], ids=["both", "etag", "size"])
@pytest.mark.parametrize("arrange", IDLE)
async def test_a_new_revision_queues_the_row_with_nothing_charged(
    books: Books, arrange: Arrange, newer: ListedObject
) -> None:
    await arrange(books)
    before = books.row(DAY)
    assert await books.discover(newer) == {Change.REVISED: 1}
    row = books.row(DAY)
    assert {name: row[name] for name in UNCHARGED} == UNCHARGED
    assert (row["status"], row["reason"], row["error_message"], row["next_attempt_ms"]) == ("pending", None, None, None)
    assert (row["revision"], row["source_etag"], row["size"]) == (2, newer.etag, newer.size)
    kept = ("id", "mirrored_revision", "mirrored_source_etag", "mirrored_size", "attempt", "discovered_at_ms")
    assert [row[name] for name in kept] == [before[name] for name in kept]
    assert "open" not in books.uploads().values()
    assert (await books.claim()).revision.number == 2


@pytest.mark.parametrize("how", ["completes", "fails", "stops", "yields", "yields before it is listed"])
async def test_a_new_revision_while_processing_queues_when_the_attempt_ends(books: Books, how: str) -> None:
    await books.fail(await books.claimed(listed(DAY)), delay_s=0)
    claim = await books.claim()
    await books.receive(claim, await books.begin(claim), 1)
    if "before" not in how:
        assert await books.discover(NEWER) == {Change.REVISED: 1}
        assert (books.status(DAY), books.row(DAY)["revision"]) == ("processing", 2)
    if how == "completes":
        assert await books.ledger.complete(claim, SENT) is False
    elif how == "fails":
        assert await books.fail(claim, Kind.UNSUPPORTED) is Event.REVISE
    elif how == "stops":
        stop = Verdict(Event.RELEASE, "interrupted", charged=False, waits=False)
        assert await books.ledger.fail(claim, stop, "", 0) is Event.REVISE
    else:
        assert await books.ledger.renew_revision(claim, NEWER) is ("before" in how)
    row = books.row(DAY)
    assert {name: row[name] for name in UNCHARGED} == UNCHARGED
    assert (row["status"], row["revision"], row["source_etag"], row["worker"]) == ("pending", 2, "b", None)
    mirrored = (1, "a", SIZE) if how == "completes" else (None, None, None)
    assert (row["mirrored_revision"], row["mirrored_source_etag"], row["mirrored_size"]) == mirrored
    assert books.uploads() == {"u1": "done" if how == "completes" else "abandoned"}
    assert [row["source_etag"] for row in books.sql("SELECT * FROM revisions ORDER BY revision")] == ["a", "b"]


@pytest.mark.parametrize("how", ["stops", "dies"])
async def test_a_new_revision_of_a_row_whose_worker_goes_starts_with_nothing_charged(books: Books, how: str) -> None:
    await books.fail(await books.claimed(listed(DAY)), delay_s=0)
    await books.fail(await books.claim(), Kind.FORBIDDEN, delay_s=0)
    worker = await books.worker()
    await books.claim(worker)
    await books.discover(NEWER)
    if how == "stops":
        await books.ledger.end_worker(worker, "interrupted")
    else:
        books.clock.go_on(LEASE_MS)
    claim = await books.claim()
    assert (claim.revision.number, claim.retry_count, claim.forbidden_before) == (2, 0, False)


async def test_a_then_b_then_a_again_are_three_revisions(books: Books) -> None:
    for number, etag in enumerate("aba", start=1):
        await books.discover(listed(DAY, etag))
        assert books.row(DAY)["revision"] == number
    assert [row["source_etag"] for row in books.sql("SELECT * FROM revisions ORDER BY revision")] == ["a", "b", "a"]


async def test_an_attempt_at_a_does_not_settle_a_that_came_again(books: Books) -> None:
    claim = await books.claimed(listed(DAY, "a"))
    for etag in "ba":
        await books.discover(listed(DAY, etag))
    assert await books.ledger.complete(claim, SENT) is False
    assert (books.status(DAY), books.row(DAY)["mirrored_revision"], books.row(DAY)["revision"]) == ("pending", 1, 3)


@pytest.mark.parametrize(
    ("arrange", "status", "reason"),
    [
        (pending, "permanent_failure", "source_gone"),
        (processing, "processing", None),
        (completed, "completed", None),
        (failed, "permanent_failure", "source_gone"),
        (permanent, "permanent_failure", "unsupported"),
        (not_entitled, "permanent_failure", "source_gone"),
    ],
)
async def test_a_file_no_longer_listed_is_parked_if_unfinished_and_revived_when_listed_again(
    books: Books, arrange: Arrange, status: str, reason: str | None
) -> None:
    await arrange(books)
    parked = reason == "source_gone"
    assert await books.ledger.mark_gone([key(DAY), key("2024-01-03")]) == parked
    row = books.row(DAY)
    assert (row["status"], row["reason"]) == (status, reason)
    assert (row["error_message"] == GONE_WORDS) == parked
    assert "open" not in books.uploads().values()
    assert await books.discover(listed(DAY, modified=3)) == {Change.RELISTED if parked else Change.TOUCHED: 1}
    assert books.status(DAY) == ("pending" if parked else status)
    assert books.row(DAY)["source_last_modified_ms"] == 3


async def test_only_unfinished_files_can_be_gone(books: Books) -> None:
    """What is mirrored stays so, and a file in work is for its worker to ask about."""
    await books.ledger.complete(await books.claimed(listed(DAY)), SENT)
    await books.claimed(listed("2024-01-03"))
    await books.discover(listed("2024-01-04"))
    assert await books.ledger.mark_gone([key(DAY), key("2024-01-03"), key("2024-01-04")]) == 1
    found = [books.status(day) for day in (DAY, "2024-01-03", "2024-01-04")]
    assert found == ["completed", "processing", "permanent_failure"]


async def test_what_the_target_already_holds_is_adopted_and_not_queued(books: Books) -> None:
    assert await books.discover(listed(DAY), adopted=Mirrored("dest", "v", "etag")) == {Change.NEW: 1}
    row = books.row(DAY)
    assert (row["status"], row["verification"], row["dest_etag"], row["attempt"]) == ("completed", "etag", "dest", 0)
    assert (row["mirrored_revision"], row["mirrored_source_etag"], row["bytes_done"]) == (1, "a", SIZE)
    assert await books.next_claim(await books.worker()) is None


async def test_known_files_are_found_by_key_and_by_range_over_many_pages(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [f"{year}-{month:02}-{day:02}" for year in (2023, 2024) for month in range(1, 13) for day in range(1, 29)]
    await books.discover(*map(listed, days))
    assert len(days) > PAGE_ROWS
    monkeypatch.setattr(store := books.ledger._store, "read", read := AsyncMock(wraps=store.read))
    between = [known.key async for known in books.ledger.known_between(key(days[0]), key(days[-2]))]
    assert between == list(map(key, days[1:-1]))
    assert read.await_count == 2, "a page that is not full is the last"
    known = await books.ledger.known_files([key(days[3]), key("1999-01-01")])
    assert [(name, file.etag, file.status) for name, file in known.items()] == [(key(days[3]), "a", Status.PENDING)]


async def test_a_page_brings_in_new_known_and_adopted_files_beside_each_other(books: Books) -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 7)]
    await books.discover(*map(listed, days[:2]))
    await books.discover(listed(days[4]), adopted=SENT)
    changes = await books.discover(*(listed(day, "a" if day != days[1] else "b") for day in days))
    assert changes == {Change.NEW: 3, Change.UNCHANGED: 2, Change.REVISED: 1}
    revisions = books.sql("SELECT f.date, r.revision, r.source_etag FROM files f JOIN revisions r ON r.file_id = f.id")
    expected = [(day, 1, "a") for day in days] + [(days[1], 2, "b")]
    assert sorted(tuple(row.values()) for row in revisions) == sorted(expected)
    assert [books.status(day) for day in days] == ["pending"] * 4 + ["completed", "pending"]


async def test_a_key_that_a_page_lists_twice_is_one_file(books: Books) -> None:
    await books.discover(listed(DAY, "a"), listed(DAY, "b"))
    assert (books.row(DAY)["revision"], books.row(DAY)["source_etag"]) == (1, "b")


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a\nb", "ä€😀", "[1,2]", "1", "null"])
async def test_any_text_passes_into_the_ledger_as_it_is(books: Books, name: str) -> None:
    item = listed(DAY, etag=name, size=2**40, dataset=f"us_stocks_sip/{name}")
    await books.ledger.record([Discovered(FileName(f"us_stocks_sip/{name}", date(2024, 1, 2)), item)], f"{name}/")
    (row,) = books.sql("SELECT key, dataset, date, source_etag, size, dest_key FROM files")
    assert tuple(row.values()) == (item.key, f"us_stocks_sip/{name}", DAY, name, 2**40, f"{name}/{item.key}")
    assert (await books.ledger.known_files([item.key]))[item.key].etag == name


async def test_the_unfinished_files_of_a_stretch_are_those_that_a_listing_may_park(books: Books) -> None:
    days = [f"{year}-{month:02}-{day:02}" for year in (2023, 2024) for month in range(1, 13) for day in range(1, 29)]
    await books.discover(*map(listed, days))
    assert len(days) > PAGE_ROWS
    worker = await books.worker()
    claims = await books.ledger.claim_up_to(worker, 4)
    await books.ledger.complete(claims[0], SENT)
    await books.fail(claims[1], Kind.UNSUPPORTED, Side.TARGET)
    await books.fail(claims[2], Kind.FORBIDDEN)
    taken = {claims[0].key, claims[1].key, claims[3].key}
    found = [name async for name in books.ledger.unfinished_between(key(days[0]), key(days[-1]))]
    assert found == [key(day) for day in days[1:] if key(day) not in taken]


# -- by hand ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrange", [failed, permanent, not_entitled])
async def test_a_row_put_back_is_due_at_once_with_nothing_charged(books: Books, arrange: Arrange) -> None:
    await arrange(books)
    assert await books.requeue(key(DAY)) == 1
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["retry_count"], row["forbidden"]) == ("pending", None, 0, 0)
    assert not (await books.claim()).forbidden_before


@pytest.mark.parametrize("arrange", [pending, processing])
async def test_a_row_in_the_queue_or_in_work_is_not_put_back(books: Books, arrange: Arrange) -> None:
    await arrange(books)
    before = books.row(DAY)
    assert await books.requeue() == 0
    assert books.row(DAY) == before


async def test_a_file_completed_meanwhile_is_not_put_back(books: Books) -> None:
    await failed(books)
    books.clock.go_on(30)
    await books.ledger.complete(await books.claim(), SENT)
    assert await books.ledger.requeue(EVERYTHING, Filter(FAILED, frozenset({key(DAY)}))) == 0
    assert books.status(DAY) == "completed"


@pytest.mark.parametrize(
    ("words", "revived"),
    [
        ([], {"2024-01-03", "2024-01-04"}),
        (["--status", "not_entitled"], {"2024-01-02"}),
        (["--status", "permanent_failure,not_entitled"], {"2024-01-02", "2024-01-03"}),
        (["--dates", "2024-01-03"], {"2024-01-03"}),
        (["--dataset", "us_options_opra/*"], set()),
        ([key("2024-01-04")], {"2024-01-04"}),
    ],
)
def test_a_bare_retry_leaves_not_entitled_out(
    place: Place, monkeypatch: pytest.MonkeyPatch, words: list[str], revived: set[str]
) -> None:
    async def arrange() -> None:
        books = Books(await open_ledger(place.url, SetClock()), SetClock(), place)
        for day, event in (("02", Event.REFUSE), ("03", Event.PARK), ("04", Event.FAIL_UPLOAD)):
            claim = await books.claimed(listed(f"2024-01-{day}"))
            verdict = Verdict(event, "r", charged=False, waits=event is Event.FAIL_UPLOAD)
            await books.ledger.fail(claim, verdict, "", 30)
        await books.ledger.close()

    asyncio.run(arrange())
    monkeypatch.setenv("DATABASE_URL", place.url)
    result = CliRunner().invoke(app, ["retry", *words], obj=Deferred())
    assert result.output == f"{len(revived)} files put back into the queue\n"
    rows = place.sql("SELECT date FROM files WHERE status = 'pending'")
    assert {row["date"] for row in rows} == revived


async def test_a_new_file_taken_out_leaves_the_ledger_but_not_its_upload(books: Books) -> None:
    await failed(books)
    await books.discover(listed("2024-01-03"))
    assert await books.unqueue() == 2
    assert [books.sql(f"SELECT * FROM {table}") for table in ("files", "revisions", "attempts")] == [[], [], []]
    assert [upload.upload_id async for upload in books.ledger.all_abandoned_uploads()] == ["u1"]
    assert await books.discover(listed(DAY)) == {Change.NEW: 1}


async def test_a_republished_file_taken_out_is_completed_as_the_revision_that_is_mirrored(books: Books) -> None:
    await completed(books)
    before = books.row(DAY)
    await books.discover(NEWER)
    claim = await books.claim()
    await books.receive(claim, await books.begin(claim), 1)
    await books.fail(claim)
    assert await books.unqueue() == 1
    kept = set(before) - {
        "attempt",
        "started_at_ms",
        "parts_total",
        "parts_done",
        "parts_mark",
        "source_last_modified_ms",
    }
    assert {name: books.row(DAY)[name] for name in kept} == {name: before[name] for name in kept}
    assert books.uploads() == {"u1": "abandoned"}
    assert await books.discover(NEWER) == {Change.REVISED: 1}
    assert books.row(DAY)["revision"] == 2


@pytest.mark.parametrize("arrange", [processing, completed, permanent, not_entitled])
async def test_only_waiting_rows_are_taken_out(books: Books, arrange: Arrange) -> None:
    await arrange(books)
    before = books.row(DAY)
    assert await books.unqueue() == 0
    assert books.row(DAY) == before


@pytest.mark.parametrize(
    ("selection", "wanted", "days"),
    [
        (named_dates(["2024-01-02..2024-01-03"]), Filter(), ["2024-01-02", "2024-01-03"]),
        (Selection(Mode.EVERYTHING, (QUOTES,)), Filter(), []),
        (Selection(Mode.EVERYTHING, ("us_stocks_sip/*",)), Filter(frozenset({Status.FAILED_DOWNLOAD})), ["2024-01-04"]),
        (Selection(Mode.EVERYTHING), Filter(keys=frozenset({key("2024-01-03")})), ["2024-01-03"]),
    ],
)
async def test_rows_are_filtered(books: Books, selection: Selection, wanted: Filter, days: list[str]) -> None:
    await books.discover(*(listed(f"2024-01-0{day}") for day in range(2, 5)))
    await books.fail(await books.claim())
    assert [file.date async for file in books.ledger.files(selection, wanted)] == days


@pytest.mark.parametrize(
    ("words", "statuses", "days"),
    [
        (["2024-01-02..2024-01-04", "2024-01-03", "2024-01-04..2024-01-05"], [], "2345"),
        (["2024-01-05,2024-01-02"], [], "25"),
        (["2024-01-02..2024-01-06"], [Status.PENDING, Status.FAILED_DOWNLOAD], "23456"),
        (["2024-01-02..2024-01-06"], [Status.FAILED_DOWNLOAD], "46"),
    ],
)
async def test_rows_are_found_once_and_in_the_order_of_their_keys_whatever_the_pages(
    books: Books, monkeypatch: pytest.MonkeyPatch, words: list[str], statuses: list[Status], days: str
) -> None:
    monkeypatch.setattr("polyb2.ledger.ledger.PAGE_ROWS", 2)
    monkeypatch.setattr("polyb2.ledger.ledger.BATCH_ROWS", 2)
    monkeypatch.setattr("polyb2.ledger.verbs.selection.LOOKUPS_MAX", 1)
    sets = [DAY_AGGS, "us_stocks_sip/trades_v1"]
    for dataset in sets:
        await books.discover(*(listed(f"2024-01-0{day}", dataset=dataset) for day in range(1, 8)))
    worker = await books.worker()
    for claim in await books.ledger.claim_up_to(worker, 8):
        if any(day in claim.key for day in ("2024-01-04", "2024-01-06")):
            await books.fail(claim)
        else:
            await books.ledger.fail(claim, Verdict(Event.RELEASE, "r", charged=False, waits=False), "", 0)
    wanted = Filter(frozenset(statuses))
    selection = named_dates(words, tuple(sets))
    found = [file.key async for file in books.ledger.files(selection, wanted)]
    assert found == [key(f"2024-01-0{day}", dataset) for dataset in sets for day in days]
    assert await books.ledger.unqueue(selection, wanted) == len(found)
    assert [row async for row in books.ledger.files(selection, wanted)] == []
    assert len(await books.found()) == 14 - len(found)


@pytest.mark.parametrize("command", ["retry", "unqueue"])
def test_a_named_key_that_the_ledger_does_not_have_is_said_and_the_others_are_acted_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    async def arrange() -> None:
        books = Books(await open_ledger(place.url, SetClock()), SetClock(), place)
        await failed(books)
        await books.ledger.close()

    asyncio.run(arrange())
    monkeypatch.setenv("DATABASE_URL", place.url)
    result = CliRunner().invoke(app, [command, key("2024-01-03"), key(DAY)], obj=Deferred())
    assert result.exit_code == 3
    assert f"the ledger has no {key('2024-01-03')}: run polyb2 discover" in result.stderr
    assert result.stdout.startswith("1 files ")


@pytest.mark.parametrize("command", ["retry", "unqueue", "files"])
@pytest.mark.parametrize("option", ["--status", "--dataset", "--dates"])
def test_a_filter_that_is_empty_as_of_an_unset_variable_never_means_everything(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: str, option: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", place.url)
    result = CliRunner().invoke(app, [command, option, ""], standalone_mode=False, obj=Deferred())
    assert f"{option} is empty" in str(result.exception)


async def test_unqueue_leaves_the_upload_of_what_verify_queued(books: Books) -> None:
    await completed(books)
    assert await books.requeue(disown=True) == 1
    claim = await books.claim()
    await books.receive(claim, await books.begin(claim), 1)
    await books.fail(claim)
    before = books.row(DAY)
    assert await books.unqueue() == 0
    assert books.row(DAY) == before
    assert books.uploads() == {"u1": "open"}
