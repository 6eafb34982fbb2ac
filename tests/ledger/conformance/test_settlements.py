"""How attempts end: charged or not, parked or given back, and never by one that no longer holds the row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from polyb2.core.errors import Kind, LeaseLostError, Side
from polyb2.core.records import Claim, Mirrored, PartProof, Receipt, Upload
from polyb2.core.status import Event
from polyb2.core.verdict import Verdict
from tests.conftest import key
from tests.ledger.conftest import LEASE_MS, SENT, SIZE, Books, listed

DAY = "2024-01-02"
STOPPED = Verdict(Event.RELEASE, "interrupted", charged=False, waits=False)


async def to_permanent_failure(books: Books, kind: Kind, side: Side, max_retries: int = 2) -> list[Event]:
    """Claim and fail until the row no longer comes back."""
    worker, events = await books.worker(lease_ms=10**9), list[Event]()
    while (claim := await books.next_claim(worker)) and len(events) < 20:
        events.append(await books.fail(claim, kind, side, max_retries=max_retries))
        books.clock.go_on(30)
    return events


@pytest.mark.parametrize("max_retries", [0, 1, 2, 5])
@pytest.mark.parametrize(("side", "failed"), [(Side.SOURCE, "fail_download"), (Side.TARGET, "fail_upload")])
async def test_the_charge_after_the_last_retry_parks_the_file(
    books: Books, side: Side, failed: str, max_retries: int
) -> None:
    await books.discover(listed(DAY))
    events = await to_permanent_failure(books, Kind.STALLED, side, max_retries)
    assert events == [failed] * max_retries + ["park"]
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["next_attempt_ms"]) == ("permanent_failure", "stalled", None)
    assert (row["retry_count"], row["attempt"]) == (max_retries, max_retries + 1)
    assert row["error_message"].startswith(f"{side}: it broke")


async def test_an_error_that_no_retry_cures_parks_the_file_at_once(books: Books) -> None:
    await books.discover(listed(DAY))
    assert await to_permanent_failure(books, Kind.UNSUPPORTED, Side.TARGET) == ["park"]
    assert (books.row(DAY)["status"], books.row(DAY)["retry_count"]) == ("permanent_failure", 0)


@pytest.mark.parametrize(
    ("kind", "outage", "status", "waits"),
    [
        (Kind.UNREACHABLE, False, "failed_upload", True),
        (Kind.STALLED, True, "failed_upload", True),
        (Kind.CAP_EXCEEDED, False, "pending", False),
        (Kind.KEYS_REFUSED, False, "pending", False),
        (Kind.NOT_PERMITTED, False, "pending", False),
    ],
)
async def test_what_says_nothing_about_the_file_is_not_charged(
    books: Books, kind: Kind, outage: bool, status: str, waits: bool
) -> None:
    await books.discover(listed(DAY))
    for attempt in range(1, 6):
        claim = await books.claim()
        await books.fail(claim, kind, Side.TARGET, outage=outage)
        row = books.row(DAY)
        assert (row["status"], row["reason"], row["retry_count"]) == (status, str(kind), 0)
        assert (row["attempt"], row["next_attempt_ms"] is not None) == (attempt, waits)
        assert "it broke" in row["error_message"]
        books.clock.go_on(30)


async def test_an_attempt_that_added_a_receipt_is_not_charged(books: Books) -> None:
    await books.discover(listed(DAY))
    upload: Upload | None = None
    for number in range(1, 4):
        claim = await books.claim()
        upload = claim.upload or await books.begin(claim)
        await books.receive(claim, upload, number)
        await books.fail(claim)
        books.clock.go_on(30)
        assert (books.row(DAY)["retry_count"], books.row(DAY)["parts_mark"]) == (0, number)
    assert await to_permanent_failure(books, Kind.STALLED, Side.SOURCE) == ["fail_download", "fail_download", "park"]
    assert books.uploads() == {"u1": "abandoned"}


async def test_a_part_sent_again_and_again_is_no_progress(books: Books) -> None:
    await books.discover(listed(DAY))
    for retries in (0, 1, 2):
        claim = await books.claim()
        await books.receive(claim, await books.begin(claim, f"u{retries}"), 1)
        await books.ledger.abandon_upload(claim) if retries else None
        await books.fail(claim)
        books.clock.go_on(30)
        assert books.row(DAY)["retry_count"] == retries
        if not retries:
            await books.ledger.abandon_upload(again := await books.claim())
            await books.ledger.fail(again, STOPPED, "", 0)


@pytest.mark.parametrize("how", ["released", "killed"])
async def test_receipts_of_an_interrupted_attempt_do_not_excuse_the_next(books: Books, how: str) -> None:
    claim = await books.claimed(listed(DAY))
    await books.receive(claim, await books.begin(claim), 1)
    if how == "released":
        await books.ledger.fail(claim, STOPPED, "stopped", 0)
    else:
        books.clock.go_on(LEASE_MS)
    await books.fail(await books.claim())
    assert books.row(DAY)["retry_count"] == 1


async def test_a_403_of_the_target_says_nothing_about_entitlement(books: Books) -> None:
    await books.fail(await books.claimed(listed(DAY)), Kind.FORBIDDEN, Side.TARGET, delay_s=0)
    claim = await books.claim()
    assert not claim.forbidden_before
    assert await books.fail(claim, Kind.FORBIDDEN) is Event.FAIL_DOWNLOAD


async def test_two_403_a_back_off_apart_make_a_file_not_entitled(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    assert not claim.forbidden_before
    assert await books.fail(claim, Kind.FORBIDDEN) is Event.FAIL_DOWNLOAD
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["retry_count"]) == ("failed_download", "forbidden", 0)
    assert row["next_attempt_ms"] == books.clock.wall_ms() + 30_000
    assert await books.next_claim(await books.worker()) is None
    books.clock.go_on(30)
    again = await books.claim()
    assert again.forbidden_before
    assert await books.fail(again, Kind.FORBIDDEN) is Event.REFUSE
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["retry_count"]) == ("not_entitled", "forbidden", 0)


@pytest.mark.parametrize(("between", "event"), [(Kind.STALLED, "fail_download"), (Kind.CAP_EXCEEDED, "refuse")])
async def test_a_403_counts_with_the_last_one_unless_the_file_was_read_between(
    books: Books, between: Kind, event: str
) -> None:
    await books.discover(listed(DAY))
    for kind in (Kind.FORBIDDEN, between):
        await books.fail(await books.claim(), kind)
        books.clock.go_on(30)
    assert await books.fail(await books.claim(), Kind.FORBIDDEN) == event


async def test_our_own_stop_gives_the_row_back_with_its_receipts(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    await books.receive(claim, upload, 1, 2)
    assert await books.ledger.fail(claim, STOPPED, "the run was stopped", 0) is Event.RELEASE
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["retry_count"], row["worker"]) == ("pending", "interrupted", 0, None)
    assert (row["bytes_done"], row["parts_done"], row["resumable"]) == (20, 2, 1)
    assert (await books.claim()).upload == upload


@pytest.mark.parametrize("with_upload", [False, True])
async def test_a_completed_file_says_what_the_target_holds(books: Books, with_upload: bool) -> None:
    await books.discover(listed(DAY, "etag"))
    await books.fail(await books.claim(), delay_s=0)
    claim = await books.claim()
    if with_upload:
        await books.receive(claim, await books.begin(claim), 1, 2, 3)
    assert await books.ledger.complete(claim, SENT, 0 if with_upload else SIZE) is True
    row = books.row(DAY)
    assert (row["status"], row["reason"], row["error_message"], row["retry_count"]) == ("completed", None, None, 1)
    assert (row["dest_etag"], row["dest_version_id"], row["verification"]) == ("sent", "version", "parts")
    assert (row["mirrored_revision"], row["mirrored_source_etag"], row["mirrored_size"]) == (1, "etag", SIZE)
    assert (row["bytes_done"], row["completed_at_ms"]) == (SIZE, books.clock.wall_ms())
    assert (row["parts_total"], row["parts_done"]) == ((3, 3) if with_upload else (1, 1))
    assert books.uploads() == ({"u1": "done"} if with_upload else {})
    (revision,) = books.sql("SELECT mirrored_at_ms, verification FROM revisions")
    assert revision == {"mirrored_at_ms": books.clock.wall_ms(), "verification": "parts"}
    assert [row["outcome"] for row in books.sql("SELECT outcome FROM attempts")] == ["fail_download", "completed"]


async def test_transfers_that_end_together_are_settled_each_as_its_own(books: Books) -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 7)]
    await books.discover(*map(listed, days))
    claims = await books.ledger.claim_up_to(await books.worker(), 6)
    by_day = {str(claim.key)[-17:-7]: claim for claim in claims}
    await books.begin(by_day[days[0]])
    await books.discover(listed(days[1], "b", size=40))
    sent = {day: Mirrored(f"dest {day}", f"version {day}" if day > days[2] else None, "parts") for day in days}
    ends = [books.ledger.complete(by_day[day], sent[day], 10) for day in days]
    assert await asyncio.gather(*ends) == [day != days[1] for day in days]
    for day in days:
        row, claim = books.row(day), by_day[day]
        assert row["status"] == ("pending" if day == days[1] else "completed")
        assert (row["mirrored_revision"], row["mirrored_source_etag"], row["mirrored_size"]) == (1, "a", SIZE)
        assert (row["dest_etag"], row["dest_version_id"]) == (sent[day].etag, sent[day].version_id)
        (revision, *_) = books.sql("SELECT * FROM revisions WHERE file_id = ? ORDER BY revision", claim.file_id)
        assert (revision["dest_etag"], revision["verification"]) == (sent[day].etag, "parts")
        (attempt,) = books.sql("SELECT * FROM attempts WHERE file_id = ?", claim.file_id)
        assert (attempt["outcome"], attempt["ended_ms"] is not None) == ("completed", True)
    assert [row["state"] for row in books.sql("SELECT state FROM uploads")] == ["done"]
    assert [row["bytes"] for row in books.sql("SELECT bytes FROM throughput")] == [60]


async def test_one_that_lost_its_row_takes_none_that_ends_with_it_along(books: Books) -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 4)]
    await books.discover(*map(listed, days))
    claims = await books.ledger.claim_up_to(await books.worker(), 3)
    await books.ledger.complete(claims[1], SENT)
    ended = await asyncio.gather(*(books.ledger.complete(claim, SENT) for claim in claims), return_exceptions=True)
    assert [end if isinstance(end, bool) else type(end) for end in ended] == [True, LeaseLostError, True]
    assert [books.status(day) for day in days] == ["completed"] * 3


async def test_a_message_is_kept_short_on_the_row_and_whole_on_no_other(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.ledger.fail(claim, Verdict(Event.FAIL_UPLOAD, "stalled", charged=True, waits=True), "x" * 5000, 1)
    assert len(books.row(DAY)["error_message"]) == 1000
    assert books.sql("SELECT length(error_message) AS n, reason FROM attempts") == [{"n": 1000, "reason": "stalled"}]


# -- the fence ----------------------------------------------------------------------------------------------------------

Act = Callable[[Books, Claim, Upload], Awaitable[object]]
ACTS: dict[str, Act] = {
    "complete": lambda b, c, u: b.ledger.complete(c, SENT),
    "fail": lambda b, c, u: b.ledger.fail(c, STOPPED, "late", 0),
    "revise": lambda b, c, u: b.ledger.renew_revision(c, listed(DAY, "newer")),
    "begin": lambda b, c, u: b.begin(c, "late"),
    "receipt": lambda b, c, u: b.ledger.add_receipt(c, u, Receipt(u.plan.part(2), "late", None)),
    "drop": lambda b, c, u: b.ledger.drop_receipts(c, u, [1]),
    "note": lambda b, c, u: b.ledger.note_completing(c, u),
    "proof": lambda b, c, u: b.ledger.note_proof(c, u, PartProof.READBACK),
    "abandon": lambda b, c, u: b.ledger.abandon_upload(c),
    "progress": lambda b, c, u: b.ledger.has_progressed(c),
}


def everything(books: Books) -> list[object]:
    return [books.sql(f"SELECT * FROM {table}") for table in ("files", "revisions", "attempts", "uploads", "parts")]


@pytest.mark.parametrize("end", ["expired", "taken over", "settled", "taken by the same worker"])
@pytest.mark.parametrize("act", ACTS)
async def test_an_attempt_that_lost_the_row_changes_nothing_and_raises(books: Books, act: str, end: str) -> None:
    await books.discover(listed(DAY))
    worker = await books.worker()
    claim = await books.claim(worker)
    upload = await books.begin(claim)
    await books.receive(claim, upload, 1)
    if end in {"expired", "taken over"}:
        books.clock.go_on(LEASE_MS / 1000 + 1)
    else:
        await books.ledger.fail(claim, STOPPED, "stopped", 0)
    if end.startswith("taken"):
        await books.claim(worker if end.endswith("worker") else await books.worker("successor"))
    before = everything(books)
    with pytest.raises(LeaseLostError, match=r"attempt 1 no longer holds the claim") as raised:
        await ACTS[act](books, claim, upload)
    assert claim.key == key(DAY)
    assert key(DAY) in str(raised.value)
    assert everything(books) == before


async def test_a_superseded_attempt_gives_its_upload_up_at_once(books: Books) -> None:
    """The next claim would as well; until it comes nobody would abort it."""
    claim = await books.claimed(listed(DAY))
    await books.begin(claim)
    await books.discover(listed(DAY, "newer"))
    assert await books.fail(claim) is Event.REVISE
    assert books.uploads() == {"u1": "abandoned"}


async def test_a_parked_file_gives_its_upload_up(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.begin(claim)
    assert await books.fail(claim, Kind.UNSUPPORTED, Side.TARGET) is Event.PARK
    assert books.uploads() == {"u1": "abandoned"}
