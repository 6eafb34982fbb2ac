"""Opening the ledger's file: its owner by the application id, its schema, and its durability.

Invariants: foreign, damaged or newer databases are refused before anything is changed; WAL and ``synchronous=FULL`` always;
the schema is brought up to date in one transaction. To a reader, a ledger that is missing or whose making was cut off is an
empty one, and none is made.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.resources import files as resources
from pathlib import Path

from polyb2.core.errors import UsageError
from polyb2.ledger.sqlite.errors import busy, code_of, translated
from polyb2.ledger.sqlite.files import is_empty
from polyb2.ledger.sqlite.lock import BUSY_TRY_S, FileLock

APPLICATION_ID = 0x50423250  # "PB2P"
FIRST_VERSION = 102
"""The schema version of the first migration; those below are of versions of the development, never released."""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}


class NoLedgerError(Exception):
    """There is no ledger to read: to a reader it is an empty one."""


def inspect(real: Path) -> None:
    """Refuse what is not a ledger of ours, before anything is opened that could change it.

    SQLite itself looks, as if the file were on a medium that cannot be written: that makes no file beside it, and drops
    no lock that this process has on it (see ``files.py``).

    Raises:
        UsageError: not a SQLite file, the ancestor's, another program's, of a development version, or damaged.
    """
    if is_empty(real):
        return
    with closing(_open(f"{real.as_uri()}?immutable=1")) as database:
        application_id = _application_id(database, real)
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        is_ancestors = _has_table(database, "files_to_process")
    if application_id == APPLICATION_ID:
        _refuse_former(version, real)
        return
    if is_ancestors:
        raise UsageError(
            f"{real} is the database of polygon_b2_downloader_v2; it is left untouched. Set DATABASE_URL to a new file: "
            "polyb2 discover adopts what is in the bucket, nothing needs to be imported"
        )
    raise UsageError(f"{real} belongs to another program: set DATABASE_URL to another file")


def _application_id(database: sqlite3.Connection, real: Path) -> int:
    # A checkpoint that was cut off (killed, a full disk) wrote the header and not yet the pages that it counts: they are in
    # the -wal, which this look does not read. The header is enough here.
    database.execute("PRAGMA writable_schema = ON")
    try:
        return int(database.execute("PRAGMA application_id").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if code_of(error) == sqlite3.SQLITE_NOTADB:
            raise UsageError(
                f"{real} is not a ledger, nor any SQLite database: move it away or set DATABASE_URL to another file"
            ) from None
        with translated():
            raise


def load_migrations() -> list[str]:
    """The migration scripts in order; the first leads to schema version :data:`FIRST_VERSION`."""
    folder = resources("polyb2.ledger.sqlite").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]


def _has_table(database: sqlite3.Connection, name: str) -> bool:
    with suppress(sqlite3.Error):
        return database.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None
    return False


def connect(real: Path, lock: FileLock, *, read_only: bool) -> sqlite3.Connection:
    """A connection to the ledger; a writer's brings the schema up to date.

    Raises:
        NoLedgerError: to a reader, one whose making was cut off.
        UsageError: its schema is not for this version, or the file is damaged.
        LedgerError: it is busy, or cannot be used.
    """
    with lock.held(), translated():
        connection = _open(f"{real.as_uri()}?mode={'ro' if read_only else 'rw'}")
        try:
            _check_version(connection, real, read_only=read_only)
            if not read_only:
                _prepare(connection)
        except BaseException:  # raised again; nothing else knows of the connection
            connection.close()
            raise
        return connection


def read_version(real: Path, lock: FileLock) -> int:
    """The version of the schema as it is; 0 for a ledger whose making was cut off."""
    with lock.held(), translated(), closing(_open(f"{real.as_uri()}?mode=ro")) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def find_damage(connection: sqlite3.Connection, real: Path) -> str | None:
    """The pages that a ledger lost whose files were cut, in SQLite's words; a ``-wal`` that was cleared in order is none.

    Args:
        connection: the writer's own, whose cache may hide what is lost.
        real: the ledger's file; its lock is held.

    Raises:
        LedgerBusyError: a reader is in the way of looking.
    """
    try:
        with closing(_open(f"{real.as_uri()}?mode=ro")) as fresh:
            found = str(fresh.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if code_of(error) in _DAMAGE:
            return str(error)
        raise
    if found != "ok":
        return found
    # SQLite's memory of the -wal may be ahead of a file that was cut: with an empty one they agree again.
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise busy("another connection reads it")
    return None


def connect_to_nothing() -> sqlite3.Connection:
    """An empty ledger in memory: a reader sees it where no ledger is."""
    connection = _open("file::memory:")
    _migrate(connection)
    return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=BUSY_TRY_S,
        check_same_thread=False,
        cached_statements=256,
    )
    # Names of columns without a dict a row, which costs a third more.
    connection.row_factory = sqlite3.Row
    return connection


def _check_version(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    _refuse_former(version, path)
    newest = FIRST_VERSION + len(load_migrations()) - 1
    if version not in range(newest + 1):
        raise UsageError(
            f"{path} was written by a newer polyb2 (schema {version}, this one knows {newest}): "
            "upgrade polyb2, or set DATABASE_URL to another file"
        )
    if read_only and not version:
        raise NoLedgerError
    if read_only and version < newest:
        raise UsageError(
            f"{path} was written by an older polyb2 (schema {version}, this one reads {newest}): run "
            "polyb2 ledger migrate, which brings it up to date"
        )


def _refuse_former(version: int, path: Path) -> None:
    if 0 < version < FIRST_VERSION:
        raise UsageError(
            f"{path} is the ledger of a development version of polyb2, from before the first release; it is left "
            "untouched. Move it away with its -wal, or set DATABASE_URL to a new file: polyb2 discover adopts what is in the "
            "bucket, and nothing is sent again"
        )


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
        for version, script in enumerate(scripts, start=FIRST_VERSION):
            if version <= done:
                continue
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:  # raised again, with no half of a schema left
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
