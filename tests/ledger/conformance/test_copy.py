"""A ledger that is copied into another store: everything is kept, nothing half done is used, and work goes on from it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polyb2.core.errors import LedgerError, UsageError
from polyb2.core.keys import parse_key
from polyb2.core.selection import EVERYTHING
from polyb2.core.status import Status
from polyb2.ledger import copy as copying
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import TARGET_ETAGS, Binding, Discovered, Filter, ListedDays
from polyb2.ledger.store import Transaction
from polyb2.ledger.tables import LEFT_OUT, TABLES
from tests.conftest import DAY_AGGS, QUOTES, key
from tests.ledger.conftest import LEASE_MS, SENT, Books, listed, new_place
from tests.ledger.places import STORES, Place, SetClock

PAIR = Binding("https://source", "flatfiles", "https://target", "bucket", "prefix/")
DAYS = [f"2024-01-{day:02}" for day in range(2, 12)]


BOTH = pytest.mark.parametrize("other", STORES, indirect=True, ids="to {}".format)


@pytest.fixture
def other(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> Iterator[Place]:
    """Where the copy goes. It comes before ``books``, whose clock is the one that is moved."""
    (tmp_path / "other").mkdir()
    found = new_place(getattr(request, "param", "sqlite"), request, tmp_path / "other", clock)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE_ROWS", 2)


@pytest.fixture
async def target(other: Place, clock: SetClock) -> AsyncIterator[Ledger]:
    ledger = await open_ledger(other.url, clock)
    yield ledger
    await ledger.close()


async def fill(books: Books) -> None:
    """A ledger of which every table has rows: files of most statuses, and a claim whose worker died with two parts sent."""
    ledger = books.ledger
    await ledger.bind(PAIR)
    await ledger.remember(TARGET_ETAGS, "opaque")
    await ledger.note_notices(["late day", "verify \N{SNOWMAN}"])
    await ledger.follow([DAY_AGGS], date(2024, 1, 1))
    await ledger.note_listed(
        ListedDays(DAY_AGGS, "2024-01", frozenset({date(2024, 1, 2)}), datetime(2024, 1, 3, tzinfo=UTC))
    )
    name = parse_key(key("2023-06-01"))
    assert name is not None
    await ledger.hold([Discovered(name, listed("2023-06-01"))])
    worker = await books.worker("the one that settles")
    for day in DAYS[:3]:
        await books.discover(listed(day))
        await ledger.complete(await books.claim(worker), SENT, 30)
    await books.discover(listed(DAYS[0], "revised"))
    await books.discover(listed(DAYS[3], size=2**53 + 1))
    await books.fail(await books.claim(worker))
    left = await books.claim(worker)
    await books.begin(left, "abandoned")
    await ledger.abandon_upload(left)
    await books.fail(left, max_retries=0)
    await books.discover(*map(listed, DAYS[4:]), listed(DAYS[4], dataset=QUOTES))
    await ledger.end_worker(worker, "drained")
    dying = await books.worker("the one that dies")
    daily = await ledger.take_round(dying, "full listing", 10**8, "2024-01-02")
    assert daily is not None
    await ledger.end_round(daily, 10**8)
    await ledger.take_round(dying, "listing", 10**6)
    claim = await books.claim(dying)
    await books.receive(claim, await books.begin(claim), 1, 2)
    books.clock.go_on(LEASE_MS / 1000 + 1)


async def files_of(ledger: Ledger) -> list[dict[str, Any]]:
    return [file.as_json() async for file in ledger.files(EVERYTHING)]


@BOTH
async def test_everything_is_kept_and_work_goes_on_from_it(
    other: Place, target: Ledger, books: Books, clock: SetClock
) -> None:
    await fill(books)
    copied = await books.ledger.copy_to(target)
    assert copied.equal
    assert [table.table for table in copied.tables if not table.rows] == [], "a table that nothing is tested of"
    assert (copied.source, copied.target) == (books.ledger.place, target.place)
    for table in ("attempts", "uploads", "parts", "revisions", "held", "facts"):
        order = ", ".join(next(item.key for item in TABLES if item.name == table))
        statement = f"SELECT * FROM {table} ORDER BY {order}"
        assert other.sql(statement) == books.place.sql(statement)
    assert [row["ended_ms"] is not None for row in other.sql("SELECT ended_ms FROM workers")] == [True], (
        "of another clock"
    )
    assert await files_of(target) == await files_of(books.ledger)
    assert (await target.status()).totals == (await books.ledger.status()).totals
    found = Books(target, clock, other)
    worker = await found.worker("the next")
    assert await target.take_round(worker, "full listing", 10**8, "2024-01-02") is None
    assert await target.take_round(worker, "listing", 10**6) is not None
    claim = await found.claim(worker)
    assert (claim.attempt, len(claim.receipts)) == (2, 2)
    assert await target.complete(claim, SENT)
    await found.discover(listed("2024-02-01"))
    await found.begin(await found.claim(), "one more")
    assert all(check.level == "pass" for check in await target.check())


@BOTH
async def test_a_copy_that_was_cut_off_is_refused_by_all_and_begun_again(
    other: Place, target: Ledger, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(books)
    sums = copying._compare

    async def cut_off(*_given: object) -> None:
        raise ConnectionAbortedError

    monkeypatch.setattr(copying, "_compare", cut_off)
    with pytest.raises(ConnectionAbortedError):
        await books.ledger.copy_to(target)
    for read_only, make_new in ((False, True), (True, True), (False, False)):
        with pytest.raises(UsageError, match="is a copy that did not end: run polyb2 ledger copy again"):
            await open_ledger(other.url, read_only=read_only, make_new=make_new)
    monkeypatch.setattr(copying, "_compare", sums)
    again = await open_ledger(other.url, unfinished=True)
    assert (await books.ledger.copy_to(again)).equal
    await again.close()
    await (await open_ledger(other.url)).close()


async def test_a_source_that_changes_meanwhile_is_found_out(
    other: Place, target: Ledger, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(books)
    sums = copying._compare

    async def changed(*given: Any) -> copying.Copied:
        await books.ledger.requeue(EVERYTHING, Filter(frozenset({Status.COMPLETED}), frozenset({key(DAYS[1])})))
        return await sums(*given)

    monkeypatch.setattr(copying, "_compare", changed)
    copied = await books.ledger.copy_to(target)
    assert [table.table for table in copied.tables if not table.equal] == ["files", "counts"]
    with pytest.raises(UsageError, match="did not end"):
        await open_ledger(other.url)


async def test_of_two_copies_into_one_the_first_gives_up(
    other: Place, target: Ledger, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(books)
    begun = copying._copy_table
    later = await open_ledger(other.url)

    async def overtaken(*given: Any) -> None:
        monkeypatch.setattr(copying, "_copy_table", begun)
        assert (await books.ledger.copy_to(later)).equal
        await begun(*given)

    monkeypatch.setattr(copying, "_copy_table", overtaken)
    with pytest.raises(UsageError, match=r"another polyb2 ledger copy into .* began meanwhile"):
        await books.ledger.copy_to(target)
    assert len(await files_of(later)) == len(await files_of(books.ledger))
    await later.close()


async def test_processes_at_work_and_a_target_that_holds_something_are_refused(
    other: Place, target: Ledger, books: Books, clock: SetClock
) -> None:
    await fill(books)
    workers = [await books.worker(f"host-{number}") for number in range(7)]
    with pytest.raises(
        UsageError, match=r"^host-0, host-1, host-2, host-3, host-4 and 2 more work with the ledger in "
    ):
        await books.ledger.copy_to(target)
    for worker in workers:
        await books.ledger.end_worker(worker, "drained")
    await Books(target, clock, other).discover(listed(DAYS[0]))
    with pytest.raises(UsageError, match="is not empty, it has datasets, files, revisions: a copy goes into a new one"):
        await books.ledger.copy_to(target)
    assert len(await files_of(target)) == 1


async def test_rows_that_the_schema_refuses_are_an_error_in_words(books: Books) -> None:
    row = ["u", None, 1, "k", "u1", "t", 1, 0, "etag", "open"]
    names = [
        "upload_id",
        "file_id",
        "revision",
        "dest_key",
        "upload_id",
        "token",
        "size",
        "part_bytes",
        "proof",
        "state",
    ]

    def insert(tx: Transaction, names: Sequence[str], row: Sequence[object]) -> None:
        tx.fill("uploads", names, [row])

    with pytest.raises(LedgerError, match="the table uploads cannot be filled"):
        await books.ledger._store.write("copy", lambda tx: insert(tx, names[1:], row[1:]))


async def test_each_table_and_column_is_copied_or_left_out_for_a_reason(
    books: Books, request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
) -> None:
    """A new table or column comes into the copy, or says here why it does not."""
    (tmp_path / "twin").mkdir()
    places = {store: new_place(store, request, tmp_path / "twin", clock) for store in STORES}
    kept = {table.name: table for table in TABLES}
    columns: dict[str, dict[str, set[str]]] = {}
    for store, place in places.items():
        ledger = await open_ledger(place.url, clock)
        for name in tables_of(place, store) - LEFT_OUT.keys() - {"ledger", "writers", "sqlite_sequence"}:
            assert name in kept, f"{store} has a table {name} that a copy neither keeps nor leaves out"
            columns.setdefault(name, {})[store] = set(await ledger._store.read(partial(columns_of, name)))
        await ledger.close()
        place.close()
    assert columns.keys() == kept.keys()
    for name, found in columns.items():
        assert found["sqlite"] ^ found["postgresql"] == kept[name].absent.keys(), name


def columns_of(name: str, tx: Transaction) -> list[str]:
    return tx.columns(name)


def tables_of(place: Place, store: str) -> set[str]:
    where = {
        "sqlite": "sqlite_schema WHERE type = 'table'",
        "postgresql": "(SELECT tablename AS name FROM pg_tables WHERE schemaname = 'polyb2') AS t",
    }[store]
    return {row["name"] for row in place.sql(f"SELECT name FROM {where}")}


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("UPDATE counts SET files = files + 1 WHERE status = 'completed'", "counts"),
        ("DELETE FROM revisions WHERE revision = 2", "revisions"),
        ("DELETE FROM workers", "claims"),
        ("DELETE FROM attempts WHERE outcome IS NULL", "claims"),
        ("DELETE FROM uploads", "parents"),
        ("UPDATE uploads SET file_id = NULL", "parents"),
    ],
)
async def test_check_names_what_is_wrong(books: Books, harm: str, named: str) -> None:
    await fill(books)
    assert [check for check in await books.ledger.check() if check.level != "pass"] == []
    spoil(books.place, harm)
    wrong = {check.name for check in await books.ledger.check() if check.level == "fail"}
    assert named in wrong
    assert wrong <= {named, "foreign_keys"}


def spoil(place: Place, harm: str) -> None:
    """Change rows behind the back of the schema's triggers and foreign keys."""
    if place.url.startswith("sqlite"):
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute(harm)
        return
    place.sql("SET session_replication_role = replica")
    place.sql(harm)
    place.sql("RESET session_replication_role")
