"""Opening the ledger's file: whose it is, what it lacks, and how it is kept.

Invariants: foreign, damaged or newer databases are refused before anything is changed; WAL and ``synchronous=FULL`` always;
the schema is brought up to date in one transaction. To a reader, a ledger that is missing or whose making was cut off is an
empty one, and none is made.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from polyb2.core.errors import UsageError
from polyb2.ledger.lock import BUSY_TRY_S, FileLock, translated, translated_os
from polyb2.ledger.place import file_system_of
from polyb2.ledger.queries import load_migrations

APPLICATION_ID = 0x50423250  # "PB2P"
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def inspect_file(path: Path) -> bool:
    """Refuse what is not a ledger of ours, by its first bytes, without opening it as a database; False if nothing is there.

    Raises:
        UsageError: not a SQLite file, the ancestor's, another program's, or a newer version's.
    """
    with translated_os(path):
        if not path.exists():
            return False
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    if not header:
        return True
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise UsageError(
            f"{path} is not a ledger, nor any SQLite database: move it away or set DATABASE_URL to another file"
        )
    if int.from_bytes(header[68:72], "big") == APPLICATION_ID:
        return True
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


def make_place(path: Path) -> None:
    """Make the folder and the file.

    Raises:
        UsageError: they cannot be made, or lie on a network file system.
    """
    place = file_system_of(path)
    if place is not None and place.is_network:
        raise UsageError(
            f"the ledger cannot be kept at {path}: {place.mounted_at} is a network file system ({place.kind}), on which "
            "SQLite's locks do not hold; set DATABASE_URL to a local disk or block volume"
        )
    with translated_os(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The ledger knows what its owner trades on: nobody else is to read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def connect(path: Path, lock: FileLock, *, read_only: bool) -> sqlite3.Connection:
    with lock.held(), translated():
        connection = _open(f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}")
        try:
            version = _schema_version(connection, path)
            if not read_only:
                _prepare(connection)
            elif version:
                _stand_in(connection, version)
        except BaseException:  # raised again; nobody else knows of the connection
            connection.close()
            raise
        if read_only and not version:
            connection.close()
            return connect_to_nothing()
        return connection


def connect_to_nothing() -> sqlite3.Connection:
    """What a reader sees where no ledger is: an empty one, in memory."""
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
    except BaseException:  # raised again, with no half of a schema left
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _stand_in(connection: sqlite3.Connection, version: int) -> None:
    """To a reader of an older ledger, later tables are there and empty; of later columns it asks nothing."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for script in load_migrations()[version:]:
        for statement in _statements(script):
            if "CREATE TABLE" in statement:
                connection.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE"))


def _statements(script: str) -> Iterator[str]:
    """A script's statements; unlike ``executescript``, running them leaves the transaction open."""
    statement = ""
    for piece in re.split("(?<=;)", script):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
