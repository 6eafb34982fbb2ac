"""One SQLite file: opened safely, written by whole transactions, read in short ones.

Invariants: WAL and ``synchronous=FULL`` always; one writing connection a process; a write is one function run on
aiosqlite's thread between BEGIN IMMEDIATE and COMMIT, so that no other task's statement can fall into it and cancelling the
awaiting task never leaves half of it; foreign or newer databases are refused before anything is changed.

SQLite 3.7.0 to 3.51.2 (but 3.44.6 and 3.50.7) can corrupt a WAL database that two connections write or checkpoint at once
(https://sqlite.org/wal.html, the WAL-reset bug). There, every write transaction, open and close runs under one advisory
file lock, ``<database>.lock``.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from polyb2.core.errors import LedgerBusyError, Polyb2Error, UsageError
from polyb2.failpoints import failpoint
from polyb2.ledger.queries import load_migrations, load_queries

APPLICATION_ID = 0x50423250  # "PB2P"
BUSY_TIMEOUT_S = 30.0
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_LOCK_POLL_S = 0.002

T = TypeVar("T")
W = TypeVar("W")
Row = Mapping[str, Any]


class LedgerError(Polyb2Error):
    """The ledger cannot be read or written: disk full, read-only, an I/O error."""


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether two connections of this SQLite may corrupt a WAL database."""
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 44, 6) <= version < (3, 45, 0) or (3, 50, 7) <= version < (3, 51, 0))


class Transaction:
    """Named statements on one connection; handed to the functions that :meth:`Database.write` and ``read`` run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries = load_queries()

    def run(self, name: str, /, **parameters: object) -> int:
        """Run a statement; the number of rows that it changed."""
        return self._connection.execute(self._queries[name], parameters).rowcount

    def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row of a statement, or None."""
        rows: list[Row] = self._connection.execute(self._queries[name], parameters).fetchall()
        return rows[0] if rows else None

    def rows(self, name: str, /, **parameters: object) -> list[Row]:
        return self._connection.execute(self._queries[name], parameters).fetchall()


class Database:
    """An open ledger file; use :func:`open_database`."""

    def __init__(self, connection: aiosqlite.Connection, lock: _FileLock) -> None:
        self._connection = connection
        self._lock = lock

    async def write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one write transaction; all of it or nothing is in the ledger afterwards.

        A cancelled caller waits for the transaction's end (milliseconds) before the cancellation goes on.

        Raises:
            LedgerBusyError: another process held the ledger for longer than 30 s.
            LedgerError: the file cannot be written.
        """
        failpoint(f"ledger.{name}.before")
        result = await self._submit(self._transact, work)
        failpoint(f"ledger.{name}.after")
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one short read transaction."""
        return await self._submit(_read, work)

    async def close(self) -> None:
        """Let what was submitted end, then close."""
        await self._submit(self._close, None)
        await _finished(asyncio.ensure_future(self._connection.close()))

    def _close(self, connection: sqlite3.Connection, _nothing: None) -> None:
        # On the connection's own thread: a write ahead of it in the queue needs the same lock.
        with self._lock.held():
            connection.close()

    async def _submit(self, run: Callable[[sqlite3.Connection, W], T], work: W) -> T:
        # aiosqlite's public calls are one statement each; its thread takes any function (the minor version is pinned).
        connection = self._connection
        return await _finished(
            asyncio.ensure_future(
                connection._execute(run, connection._conn, work)  # type: ignore[no-untyped-call]  # noqa: SLF001
            )
        )

    def _transact(self, connection: sqlite3.Connection, work: Callable[[Transaction], T]) -> T:
        with self._lock.held(), translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(Transaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result


async def _finished(task: asyncio.Future[T]) -> T:
    """The task's result; however often the caller is cancelled, the task ends before that goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Looked at, so that nothing is said to be lost; the cancellation is what the caller hears of.
        task.exception()
        raise cancelled
    return task.result()


def _read(connection: sqlite3.Connection, work: Callable[[Transaction], T]) -> T:
    with translated():
        connection.execute("BEGIN")
        try:
            return work(Transaction(connection))
        finally:
            connection.execute("COMMIT")


async def open_database(path: Path, *, read_only: bool = False) -> Database:
    """Open the ledger at ``path``; a writer creates what is missing and brings the schema up to date.

    Raises:
        UsageError: the place is unusable, or the file is not a ledger that this version may touch.
        LedgerBusyError: another process held the ledger for longer than 30 s.
    """
    if not read_only:
        _make_place(path)
    inspect_file(path)
    lock = _FileLock(path, needed=has_wal_reset_bug())
    connection = aiosqlite.Connection(lambda: _connect(path, lock, read_only=read_only), iter_chunk_size=64)
    try:
        return Database(await connection, lock)
    except BaseException:
        # Its thread tells the loop when it has ended, so the loop must not be gone before.
        while connection._thread.is_alive():  # noqa: SLF001, ASYNC110 - a thread has no event to wait for
            await asyncio.sleep(0.005)
        raise


def inspect_file(path: Path) -> None:
    """Refuse what is not a ledger of ours, by its first bytes, without opening it as a database.

    Raises:
        UsageError: not a SQLite file, the ancestor's, another program's, or a newer version's.
    """
    with translated_os(path):
        if not path.exists():
            return
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    if not header:
        return
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise UsageError(
            f"{path} is not a ledger, nor any SQLite database: move it away or set DATABASE_URL to another file"
        )
    if int.from_bytes(header[68:72], "big") == APPLICATION_ID:
        return
    if _has_table(path, "files_to_process"):
        raise UsageError(
            f"{path} is the database of polygon_b2_downloader_v2; it is left untouched. Set DATABASE_URL to a new file: "
            "polyb2 discover adopts what is in the bucket, nothing needs to be imported"
        )
    raise UsageError(f"{path} belongs to another program: set DATABASE_URL to another file")


def _has_table(path: Path, name: str) -> bool:
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as database,
    ):
        return database.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None
    return False


def _make_place(path: Path) -> None:
    with translated_os(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The ledger knows what its owner trades on: nobody else is to read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _connect(path: Path, lock: _FileLock, *, read_only: bool) -> sqlite3.Connection:
    with lock.held(), translated():
        connection = _open(f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}")
        try:
            made = _schema_version(connection, path) > 0
            if not read_only:
                _prepare(connection)
        except BaseException:
            connection.close()
            raise
        if read_only and not made:
            # A process died while it made the ledger: to a reader that is an empty one.
            connection.close()
            connection = _open("file::memory:")
            _migrate(connection)
        return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > len(load_migrations()):
        raise UsageError(
            f"{path} was written by a newer polyb2 (schema {version}, this one knows {len(load_migrations())}): "
            "upgrade polyb2, or set DATABASE_URL to another file"
        )
    return version


def _prepare(connection: sqlite3.Connection) -> None:
    # The application id goes into the file itself, before WAL, so that the first bytes always tell whose it is.
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    scripts = load_migrations()
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read within the transaction: another process may be making the same ledger.
        done = int(connection.execute("PRAGMA user_version").fetchone()[0])
        for version, script in enumerate(scripts[done:], start=done + 1):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """A script's statements; unlike ``executescript``, running them leaves the transaction open."""
    statement = ""
    for piece in re.split("(?<=;)", script):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class _FileLock:
    """An advisory lock on ``<database>.lock``, between processes and between the connections of one."""

    def __init__(self, path: Path, *, needed: bool) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._needed = needed

    @contextmanager
    def held(self) -> Iterator[None]:
        if not self._needed:
            yield
            return
        with translated_os(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LedgerBusyError(
                        f"the ledger was locked for {BUSY_TIMEOUT_S:.0f} s: another polyb2 may hang; look for it and stop it"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            else:
                return


@contextmanager
def translated() -> Iterator[None]:
    """SQLite's errors as ours, each with what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise LedgerBusyError(f"the ledger is busy: {error}; another process holds it") from error
        raise LedgerError(f"the ledger cannot be used: {error}; check the disk and the folder's permissions") from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"the ledger is damaged: {error}; move the file away and run polyb2 discover, which adopts what is in the bucket"
        ) from error


@contextmanager
def translated_os(path: Path) -> Iterator[None]:
    """The file system's errors as a usage error that names the place."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the ledger cannot be kept at {path}: {error.strerror}; set DATABASE_URL to a place that can be written"
        ) from error
