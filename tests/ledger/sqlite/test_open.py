"""The file under the ledger: what is refused and left untouched, what is made, and what is set."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiosqlite
import pytest
from typer.testing import CliRunner

from polyb2.cli.main import app
from polyb2.clock import Clock
from polyb2.core.errors import LedgerError, UsageError
from polyb2.core.status import Status
from polyb2.ledger.open import open_ledger
from polyb2.ledger.sqlite import open as opening
from polyb2.ledger.sqlite import store
from polyb2.ledger.sqlite.lock import FileLock
from polyb2.ledger.sqlite.open import APPLICATION_ID, FIRST_VERSION, load_migrations
from polyb2.ledger.sqlite.store import open_store
from polyb2.ledger.sqlite.transaction import SqliteTransaction
from polyb2.ledger.verbs.facts import fact, remember
from polyb2.signals import Deferred
from tests.conftest import url_of
from tests.ledger.places import read_sql


def pragma(name: str) -> Callable[[SqliteTransaction], object]:
    return lambda tx: tx._connection.execute(f"PRAGMA {name}").fetchone()[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


async def test_a_new_ledger_is_private_and_durable(path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = await open_store(path.parent / "made" / "ledger.db", Clock())
        await ledger.write("test", lambda tx: remember(tx, "a", "1"))
    finally:
        os.umask(before)
    made = {entry.name: entry.stat().st_mode & 0o777 for entry in (path.parent / "made").iterdir()}
    assert set(made) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(made.values()) == {0o600}
    names = ("journal_mode", "synchronous", "foreign_keys", "user_version", "application_id")
    values = [await ledger.read(pragma(name)) for name in names]
    assert values == ["wal", 2, 1, FIRST_VERSION, APPLICATION_ID]
    await ledger.close()


@pytest.mark.parametrize("name", ["led ger.db", "a?mode=memory.db", "50%20#1.db", "ledger"])
async def test_a_ledger_may_have_any_name_and_keeps_what_is_in_it(path: Path, name: str) -> None:
    for turn in range(3):
        ledger = await open_store(path.with_name(name), Clock())
        assert await ledger.read(lambda tx: fact(tx, "turn")) == (str(turn - 1) if turn else None)
        await ledger.write("test", lambda tx, turn=turn: remember(tx, "turn", str(turn)))  # type: ignore[misc]
        await ledger.close()
    assert {entry.name for entry in path.parent.iterdir()} <= {name, f"{name}.lock"}


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be nobody in particular, where we are root, to whom modes mean nothing."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
async def test_a_ledger_in_a_folder_that_cannot_be_written_is_told_of_by_its_place(read_only: bool) -> None:
    with TemporaryDirectory(prefix="polyb2-read-only-") as name:
        folder = Path(name)
        ledger = await open_store(folder / "ledger.db", Clock())
        await ledger.write("test", lambda tx: remember(tx, "a", "1"))
        await ledger.close()
        FileLock(folder / "ledger.db", needed=True).make()
        for entry in folder.iterdir():
            entry.chmod(0o666)
        folder.chmod(0o555)
        with (
            ordinary_user(),
            pytest.raises(UsageError, match=r"ledger\.db cannot be opened: uid .* or copy the ledger"),
        ):
            await open_store(folder / "ledger.db", Clock(), read_only=read_only)
        folder.chmod(0o755)
        ledger = await open_store(folder / "ledger.db", Clock())
        assert await ledger.read(lambda tx: fact(tx, "a")) == "1"
        await ledger.close()


def make_ancestor(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE files_to_process (file_key TEXT PRIMARY KEY, status TEXT)")
        connection.execute("INSERT INTO files_to_process VALUES ('k', 'downloaded')")


def make_former(path: Path, version: int = 7) -> None:
    """As a version of the development left it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("CREATE TABLE files (key TEXT)")
        connection.execute("INSERT INTO files VALUES ('k')")


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (name TEXT)")


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FIRST_VERSION + len(load_migrations())}")


def make_damaged(path: Path) -> None:
    make_newer(path)
    path.write_bytes(path.read_bytes()[:100].ljust(4096, b"\xff"))


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("not a database\n" * 20), "nor any SQLite database"),
        (lambda path: path.write_bytes(b"SQLite format 3\x00"), "nor any SQLite database"),
        (make_ancestor, "polygon_b2_downloader_v2; it is left untouched"),
        (make_former, "development version of polyb2.*left untouched. Move it away.*polyb2 discover adopts"),
        (lambda path: make_former(path, 1), "development version of polyb2"),
        (make_foreign, "belongs to another program"),
        (make_newer, "newer polyb2"),
        (make_damaged, "damaged"),
    ],
    ids=["text", "short", "ancestor", "former", "former of version 1", "foreign", "newer", "damaged"],
)
async def test_what_is_no_ledger_of_ours_is_refused_and_untouched(
    path: Path, make: Callable[[Path], None], words: str, read_only: bool
) -> None:
    make(path)
    before = contents(path.parent)
    with pytest.raises(UsageError, match=words) as raised:
        await open_store(path, Clock(), read_only=read_only)
    after = contents(path.parent)
    assert after.pop("ledger.db.lock", b"") == b""
    assert (after, raised.value.exit_code) == (before, 2)


async def test_no_thread_is_left_after_a_refusal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_newer(path)
    stop, before = aiosqlite.Connection.stop, threading.active_count()

    def stop_late(connection: aiosqlite.Connection) -> object:
        connection._tx.put_nowait((None, lambda: time.sleep(0.1)))
        return stop(connection)

    monkeypatch.setattr(aiosqlite.Connection, "stop", stop_late)
    with pytest.raises(UsageError, match="newer polyb2"):
        await open_store(path, Clock())
    assert threading.active_count() == before


async def test_the_ancestors_database_in_use_is_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE files_to_process (file_key TEXT)")
        before = contents(path.parent)
        assert before["ledger.db-wal"]
        with pytest.raises(UsageError):
            await open_store(path, Clock())
        assert contents(path.parent) == before


async def test_a_ledger_of_a_development_version_keeps_its_wal(path: Path) -> None:
    make_former(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO files VALUES ('another')")
        connection.commit()
        before = contents(path.parent)
        assert before["ledger.db-wal"]
        for read_only in (True, False):
            with pytest.raises(UsageError, match="development version"):
                await open_store(path, Clock(), read_only=read_only)
            assert contents(path.parent) == before


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
async def test_a_folder_is_refused(path: Path, read_only: bool) -> None:
    path.mkdir()
    with pytest.raises(UsageError, match="cannot be kept at"):
        await open_store(path, Clock(), read_only=read_only)


@pytest.mark.parametrize("name", ["file/ledger.db", "file/deeper/ledger.db", f"{'x' * 300}.db"])
async def test_a_place_that_cannot_be_written_is_refused(path: Path, name: str) -> None:
    path.with_name("file").touch()
    with pytest.raises(UsageError, match="set DATABASE_URL"):
        await open_store(path.parent / name, Clock())


async def test_a_checkpoint_that_was_cut_off_is_no_damage(path: Path, tmp_path: Path) -> None:
    """Killed, or out of room, after the header: it counts pages that only the ``-wal`` has yet."""
    ledger, torn, whole = await open_ledger(url_of(path)), tmp_path / "torn.db", tmp_path / "whole.db"
    try:
        for copy in (torn, whole):
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    finally:
        await ledger.close()
    with closing(sqlite3.connect(whole)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page_bytes = 4096
    assert whole.stat().st_size > torn.stat().st_size
    with torn.open("r+b") as file:
        file.write(whole.read_bytes()[:page_bytes])
    for read_only in (True, False):
        ledger = await open_ledger(url_of(torn), read_only=read_only)
        assert (await ledger.status()).totals.files == 0
        await ledger.close()
    with closing(sqlite3.connect(torn)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_damage_that_shows_later_is_said_in_words(path: Path) -> None:
    ledger = await open_store(path, Clock())
    for number in range(100):
        await ledger.write("test", lambda tx, n=number: remember(tx, f"{n}", "x" * 200))  # type: ignore[misc]
    await ledger.close()
    path.write_bytes(path.read_bytes()[:-4096] + b"\xff" * 4096)
    ledger = await open_store(path, Clock(), read_only=True)
    with pytest.raises(UsageError, match="damaged"):
        await ledger.read(lambda tx: tx._connection.execute("SELECT sum(length(value)) FROM facts").fetchone())
    await ledger.close()


async def test_a_migration_that_fails_leaves_the_ledger_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await open_store(path, Clock())).close()
    schema = read_sql(path, "SELECT name FROM sqlite_schema")
    scripts = [*load_migrations(), "CREATE TABLE half (a); CREATE TABLE nonsense;"]
    with monkeypatch.context() as patch:
        patch.setattr(opening, "load_migrations", lambda: scripts)
        with pytest.raises(LedgerError):
            await open_store(path, Clock())
    assert read_sql(path, "SELECT name FROM sqlite_schema") == schema
    await (await open_store(path, Clock())).close()


async def test_a_ledger_of_an_earlier_version_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await open_store(path, Clock())
    await ledger.write("test", lambda tx: remember(tx, "a", "1"))
    await ledger.close()
    monkeypatch.setattr(opening, "load_migrations", lambda: [*load_migrations(), "CREATE TABLE later (a TEXT) STRICT;"])
    with pytest.raises(UsageError, match=r"older polyb2.*: run polyb2 ledger migrate"):
        await open_store(path, Clock(), read_only=True)
    assert read_sql(path, "PRAGMA user_version") == [{"user_version": FIRST_VERSION}]
    for read_only in (False, True):
        ledger = await open_store(path, Clock(), read_only=read_only)
        assert await ledger.read(lambda tx: fact(tx, "a")) == "1"
        assert await ledger.read(pragma("user_version")) == FIRST_VERSION + 1
        await ledger.close()


async def test_two_processes_may_make_the_ledger_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: False)  # else the advisory lock is in the way
    scripts, calls = load_migrations(), []

    def load_while_another_opens() -> list[str]:
        calls.append(1)
        if len(calls) == 2:  # the first checked the version, this one is about to migrate
            lock = FileLock(path, needed=False)
            opening.connect(path, lock, read_only=False).close()
        return scripts

    monkeypatch.setattr(opening, "load_migrations", load_while_another_opens)
    await (await open_store(path, Clock())).close()


@pytest.mark.parametrize("words", [["status", "--json"], ["files", "--json"]])
def test_without_a_ledger_nothing_is_shown_and_no_file_is_made(path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(app, words, obj=Deferred())
    assert result.exit_code == 0
    assert list(path.parent.iterdir()) == []
    if words[0] == "status":
        assert json.loads(result.stdout)["totals"] == {"files": 0, "bytes": 0, "bytes_done": 0}
        assert json.loads(result.stdout)["by_status"] == {status: {"files": 0, "bytes": 0} for status in Status}
    else:
        assert result.stdout == ""


def make_header(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@pytest.mark.parametrize(
    ("make", "read_only"), [(Path.touch, True), (Path.touch, False), (make_header, True)], ids=["r", "w", "header"]
)
async def test_a_ledger_whose_making_was_cut_off_counts_nothing(
    path: Path, make: Callable[[Path], None], read_only: bool
) -> None:
    make(path)  # what kill -9 leaves between making the file and its schema
    before = path.stat().st_size
    database = await open_store(path, Clock(), read_only=read_only, make_new=False)
    reader = await database.reader()
    try:
        assert not database.exists
        for opened in (database, reader):
            assert list(await opened.read(lambda tx: tx.rows("counts"))) == []
    finally:
        await reader.close()
        await database.close()
    assert path.stat().st_size == before
