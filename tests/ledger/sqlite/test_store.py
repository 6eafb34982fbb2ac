"""Transactions: whole or not there, whatever happens around them; readers beside writers; the advisory lock."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from polyb2.clock import Clock
from polyb2.core.errors import LedgerBusyError, LedgerError, LedgerGoneError, UsageError
from polyb2.ledger import busy_retry
from polyb2.ledger.sqlite import lock, store
from polyb2.ledger.sqlite import open as opening
from polyb2.ledger.sqlite.errors import busy, translated
from polyb2.ledger.sqlite.files import OpenFiles
from polyb2.ledger.sqlite.lock import has_wal_reset_bug
from polyb2.ledger.sqlite.store import SqliteStore, open_store
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.facts import fact, remember
from tests.descriptors import no_descriptors_left
from tests.ledger.conftest import join_threads, python
from tests.ledger.places import read_sql


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path, Clock())
    yield opened
    await opened.close()


class Halfway:
    """A write of two facts that waits between them for the test."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self, tx: Transaction) -> None:
        remember(tx, "first", "1")
        self.entered.set()
        assert self.go_on.wait(10)
        remember(tx, "second", "2")


def facts(tx: Transaction) -> tuple[str | None, str | None]:
    return fact(tx, "first"), fact(tx, "second")


async def test_a_write_that_fails_leaves_nothing(opened: SqliteStore) -> None:
    def fail(tx: Transaction) -> None:
        remember(tx, "first", "1")
        raise KeyError

    with pytest.raises(KeyError):
        await opened.write("test", fail)
    assert await opened.read(facts) == (None, None)


async def test_a_write_that_fails_takes_none_of_those_beside_it_with_it(opened: SqliteStore) -> None:
    def fail(tx: Transaction) -> None:
        count_up(tx)
        raise KeyError

    def clash(tx: Transaction) -> None:
        count_up(tx)
        tx.run("upload_insert", file_id=None, revision=1, dest_key="k", upload_id="u", token="t", size=1, part_bytes=0,
               proof="etag", state="open")  # fmt: skip

    def slip(tx: Transaction) -> None:
        count_up(tx)
        remember(tx, "count", object())  # type: ignore[arg-type]

    works = [count_up, fail, count_up, clash, slip, count_up]
    ended = await asyncio.gather(*(opened.write("test", work) for work in works), return_exceptions=True)
    assert [type(end) for end in ended] == [
        type(None), KeyError, type(None), sqlite3.IntegrityError, sqlite3.ProgrammingError, type(None)
    ]  # fmt: skip
    assert await opened.read(lambda tx: fact(tx, "count")) == "3"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_CORRUPT, UsageError),
        (sqlite3.SQLITE_CORRUPT_VTAB, UsageError),
        (sqlite3.SQLITE_NOTADB, UsageError),
        (sqlite3.SQLITE_MISUSE, sqlite3.DatabaseError),
        (None, sqlite3.DatabaseError),
    ],
)
def test_only_what_sqlite_calls_damage_is_damage(code: int | None, kind: type[Exception]) -> None:
    error = sqlite3.DatabaseError("it broke")
    if code is not None:
        error.sqlite_errorcode = code
    with (
        pytest.raises(kind, match=r"^it broke$" if kind is sqlite3.DatabaseError else "ledger is damaged"),
        translated(),
    ):
        raise error


def cannot_open(_real: Path) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    with translated():
        raise error


def is_busy(_real: Path) -> None:
    raise busy("its lock is taken")


def is_gone(real: Path) -> None:
    raise OpenFiles(real).lost("it was removed")


@pytest.mark.parametrize(
    ("fail", "around", "kind", "words"),
    [
        (cannot_open, nullcontext, UsageError, "cannot write to its folder"),
        (cannot_open, no_descriptors_left, LedgerError, "ulimit -n"),
        (is_busy, nullcontext, LedgerBusyError, "the ledger is busy"),
        (is_gone, nullcontext, LedgerGoneError, "the ledger is gone"),
    ],
    ids=["folder", "descriptors", "busy", "gone"],
)
def test_only_a_ledger_that_sqlite_cannot_open_may_be_the_folders_fault(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[Path], None],
    around: Callable[[], AbstractContextManager[None]],
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(store, "can_write_beside", lambda _real: False)
    with around(), pytest.raises(kind, match=words) as raised, store._place_named(path):
        fail(path)
    assert type(raised.value) is kind


async def test_a_batch_whose_writes_were_all_withdrawn_makes_no_transaction(opened: SqliteStore) -> None:
    halfway = Halfway()
    first = asyncio.create_task(opened.write("test", halfway))
    await asyncio.to_thread(halfway.entered.wait, 10)
    withdrawn = [asyncio.create_task(opened.write("test", count_up)) for _ in range(3)]
    await asyncio.sleep(0)
    for write in withdrawn:
        write.cancel()
    await asyncio.gather(*withdrawn, return_exceptions=True)
    seen: list[str] = []
    opened._connection._conn.set_trace_callback(seen.append)
    halfway.go_on.set()
    await first
    await opened._commits.idle()
    assert [statement for statement in seen if statement.startswith("BEGIN")] == []


async def test_an_array_that_several_statements_take_is_put_into_words_once(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ["a"], ["a"]
    monkeypatch.setattr("polyb2.ledger.sqlite.transaction.json", made := Mock(dumps=Mock(return_value="[]")))

    def work(tx: Transaction) -> None:
        for keys in (one, one, other, one):
            tx.rows("known_by_keys", keys=keys)

    await opened.read(work)
    assert [id(call.args[0]) for call in made.dumps.call_args_list] == [id(one), id(other), id(one)]


async def test_writes_of_a_kind_are_done_at_once_and_answered_each(opened: SqliteStore) -> None:
    done: list[list[int]] = []

    def double(tx: Transaction, items: Sequence[int]) -> list[int]:
        done.append(list(items))
        remember(tx, "first", str(sum(items)))
        return [2 * item for item in items]

    shared = [opened.write_shared("test", double, number) for number in range(5)]
    apart = opened.write("apart", lambda tx: remember(tx, "second", "2"))
    assert await asyncio.gather(shared[0], apart, *shared[1:]) == [0, None, 2, 4, 6, 8]
    assert (done, await opened.read(facts)) == ([[0, 1, 2, 3, 4]], ("10", "2"))


async def test_of_writes_of_a_kind_only_those_that_fail_fail(opened: SqliteStore) -> None:
    def store(tx: Transaction, items: Sequence[str]) -> list[str]:
        for item in items:
            remember(tx, item, "1")
        if "second" in items:
            raise KeyError
        return list(items)

    writes = [opened.write_shared("test", store, name) for name in ("first", "second", "third")]
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, type(second), third) == ("first", KeyError, "third")
    assert await opened.read(facts) == ("1", None)


@pytest.mark.parametrize("steps", range(8))
async def test_a_write_cancelled_at_any_step_is_whole_or_nothing(opened: SqliteStore, steps: int) -> None:
    halfway = Halfway()
    halfway.go_on.set()
    task = asyncio.create_task(opened.write("test", halfway))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await opened.read(facts) in ({(None, None)} if steps == 0 else {(None, None), ("1", "2")})
    await opened.write("test", lambda tx: remember(tx, "first", "after"))
    assert (await opened.read(facts))[0] == "after"


async def test_a_write_cancelled_halfway_ends_whole_before_the_cancellation_goes_on(opened: SqliteStore) -> None:
    halfway = Halfway()
    task = asyncio.create_task(opened.write("test", halfway))
    await asyncio.to_thread(halfway.entered.wait, 10)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    halfway.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (done, await opened.read(facts)) == (set(), ("1", "2"))


async def test_a_write_cancelled_twice_ends_before_the_cancellation_goes_on(opened: SqliteStore) -> None:
    halfway = Halfway()
    task = asyncio.create_task(opened.write("test", halfway))
    await asyncio.to_thread(halfway.entered.wait, 10)
    task.cancel()
    await asyncio.wait([task], timeout=0.02)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.02)
    halfway.go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert done == set()


async def test_closing_lets_a_write_under_way_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: True)
    ledger = await open_store(path, Clock())
    written, _ = await asyncio.gather(
        ledger.write("test", lambda tx: remember(tx, "first", "1")), ledger.close(), return_exceptions=True
    )
    assert written is None


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_retry, "BUSY_S", 0.0)
    for module in (lock, opening):
        monkeypatch.setattr(module, "BUSY_TRY_S", 0.05)


def count_up(tx: Transaction) -> None:
    remember(tx, "count", str(int(fact(tx, "count") or 0) + 1))


async def test_many_tasks_write_at_once_and_none_falls_into_anothers_transaction(opened: SqliteStore) -> None:
    def failing(tx: Transaction) -> None:
        count_up(tx)
        raise KeyError

    works = [count_up, count_up, failing] * 20
    ended = await asyncio.gather(*(opened.write("test", work) for work in works), return_exceptions=True)
    assert [type(end) for end in ended].count(KeyError) == 20
    assert await opened.read(lambda tx: fact(tx, "count")) == "40"


@pytest.mark.parametrize("bug", [True, False])
async def test_two_connections_write_at_once(path: Path, bug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: bug)
    both = [await open_store(path, Clock()) for _ in range(2)]
    for _ in range(10):
        await asyncio.gather(*(one.write("test", count_up) for one in both * 3))
    assert await both[0].read(lambda tx: fact(tx, "count")) == "60"
    for one in both:
        await one.close()


COUNT_UP = """
import asyncio, pathlib, sys
from polyb2.clock import Clock
from polyb2.ledger.sqlite.store import open_store
from tests.ledger.sqlite.test_store import count_up

async def main():
    ledger = await open_store(pathlib.Path(sys.argv[1]), Clock())
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(30):
        await ledger.write("test", count_up)
    await ledger.close()

asyncio.run(main())
"""


async def test_two_processes_write_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    processes = [await python(COUNT_UP, path) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ended = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    assert [out for out, _ in ended] == [b"", b""]
    assert read_sql(path, "SELECT value FROM facts WHERE name = 'count'") == [{"value": "60"}]
    assert read_sql(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


async def test_a_reader_neither_waits_for_a_writer_nor_writes(opened: SqliteStore, path: Path) -> None:
    reader, halfway = await open_store(path, Clock(), read_only=True), Halfway()
    task = asyncio.create_task(opened.write("test", halfway))
    await asyncio.to_thread(halfway.entered.wait, 10)
    assert await asyncio.wait_for(reader.read(facts), 5) == (None, None)
    halfway.go_on.set()
    await task
    assert await reader.read(facts) == ("1", "2")
    with pytest.raises(LedgerError, match="readonly"):
        await reader.write("test", count_up)
    await reader.close()


async def test_a_ledger_that_is_missing_reads_as_an_empty_one_and_none_is_made(path: Path) -> None:
    reader = await open_store(path, Clock(), read_only=True)
    assert await reader.read(facts) == (None, None)
    await reader.close()
    assert list(path.parent.iterdir()) == []


# -- the advisory lock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 44, 9), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_that_may_corrupt_a_database(version: tuple[int, ...], bug: bool) -> None:
    assert has_wal_reset_bug(version) is bug


@pytest.mark.parametrize("bug", [True, False])
async def test_writes_and_opening_wait_for_the_lock_where_it_is_needed(
    path: Path, bug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: bug)
    ledger = await open_store(path, Clock())
    assert path.with_name("ledger.db.lock").exists() is bug
    impatient(monkeypatch)
    with path.with_name("ledger.db.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        results = await asyncio.gather(
            ledger.write("test", count_up), open_store(path, Clock(), read_only=True), return_exceptions=True
        )
        assert await ledger.read(lambda tx: fact(tx, "count")) == (None if bug else "1")  # reading needs no lock
    assert [isinstance(result, LedgerBusyError) for result in results] == [bug, bug]
    if isinstance(results[1], SqliteStore):
        await results[1].close()
    await ledger.write("test", count_up)
    await ledger.close()


async def test_a_ledger_that_another_program_holds_is_busy_in_words(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    ledger = await open_store(path, Clock())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusyError, match="look for another polyb2"):
            await ledger.write("test", count_up)
        other.execute("ROLLBACK")
    await ledger.write("test", count_up)
    await ledger.close()


@pytest.mark.parametrize("bug", [True, False])
async def test_a_run_waits_for_the_ledger_as_long_as_its_rule_says(
    path: Path, bug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: bug)
    impatient(monkeypatch)
    monkeypatch.setattr(busy_retry, "_PAUSE_S", 0.01)
    waited: list[float] = []

    def rule(_error: LedgerError, waited_s: float) -> bool:
        waited.append(waited_s)
        if len(waited) == 3:
            lock_file.close()
            other.rollback()
        return True

    ledger = await open_store(path, Clock(), retry=rule)
    with path.with_name("ledger.db.lock").open("w") as lock_file, closing(sqlite3.connect(path)) as other:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        other.execute("BEGIN IMMEDIATE")
        await asyncio.gather(*(ledger.write("test", count_up) for _ in range(5)))
    assert waited == sorted(waited)
    assert 0 < waited[0] < 1, "from when it was begun"
    assert await ledger.read(lambda tx: fact(tx, "count")) == "5"
    assert ledger.trouble is None
    await ledger.close()


async def test_those_who_wait_behind_a_busy_write_can_be_cancelled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    ledger = await open_store(path, Clock(), retry=lambda _error, _waited_s: True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.create_task(ledger.write("test", count_up)) for _ in range(100)]
        while ledger.trouble is None:
            await asyncio.sleep(0.01)
        for write in writes:
            write.cancel()
        await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 2)
    await ledger.close()


@pytest.mark.parametrize(
    ("broken", "words"),
    [("PRAGMA max_page_count = 1", "full"), ("PRAGMA query_only = 1", "readonly")],
    ids=["full", "read-only"],
)
async def test_a_write_goes_on_when_the_disk_has_room_again(path: Path, broken: str, words: str) -> None:
    said: list[str] = []

    def rule(error: LedgerError, _waited_s: float) -> bool:
        said.append(str(error))
        return len(said) == 1

    ledger = await open_store(path, Clock(), retry=rule)
    name, _, _ = broken.partition(" =")
    before = await ledger.read(lambda tx: tx._connection.execute(name).fetchone()[0])
    await ledger.read(lambda tx: tx._connection.execute(broken).fetchall())

    def write_much(tx: Transaction) -> None:
        for number in range(10):
            remember(tx, f"{number}", "x" * 4000)

    task = asyncio.create_task(ledger.write("test", write_much))
    while not said:
        await asyncio.sleep(0.01)
    await ledger.read(lambda tx: tx._connection.execute(f"{name} = {before}").fetchall())
    await task
    assert words in said[0]
    assert await ledger.read(lambda tx: fact(tx, "9")) == "x" * 4000
    await ledger.close()


async def test_closing_ends_even_while_another_process_keeps_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: True)
    impatient(monkeypatch)
    ledger = await open_store(path, Clock())
    with path.with_name("ledger.db.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        await ledger.close()
    join_threads()
    assert not [thread for thread in threading.enumerate() if "_connection_worker" in thread.name]
