"""The lines of ``doctor`` on SQLite and the place of the ledger's file."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from polyb2.core.scrub import one_line
from polyb2.core.units import format_size
from polyb2.ledger.rows import Check, Level
from polyb2.ledger.sqlite.file_system import file_system_of
from polyb2.ledger.sqlite.files import open_to_others
from polyb2.ledger.sqlite.lock import has_wal_reset_bug

FREE_BYTES_MIN = 1 << 30
"""A million files take less than that."""
_DAMAGED = "restore a copy, or set DATABASE_URL to a new file: polyb2 discover adopts what is in the bucket"


def check_place(path: Path) -> list[Check]:
    """The checks that need no ledger."""
    version = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"
    if has_wal_reset_bug():
        version = f"{version}; it has the WAL-reset bug, so writes take turns by a lock file"
    return [Check("sqlite", Level.PASS, version), *_check_file_system(path)]


def check_files(path: Path, *, exists: bool) -> list[Check]:
    """The checks of a ledger that was opened, or of its place where there is none yet."""
    return [*([_check_others(path.resolve())] if exists else ()), _check_room(path)]


def check_database(connection: sqlite3.Connection) -> list[Check]:
    """The checks of the whole file: its pages, its rows' parents."""
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    pages = Check("pages", Level.PASS, "SQLite finds the file whole")
    if found != "ok":
        pages = Check("pages", Level.FAIL, f"SQLite finds it damaged: {one_line(found)}", _DAMAGED)
    keys = Check("foreign_keys", Level.PASS, "all foreign keys lead to a row")
    if orphan is not None:
        keys = Check("foreign_keys", Level.FAIL, f"a row of {orphan[0]} leads to none of {orphan[2]}", _DAMAGED)
    return [pages, keys]


def _check_file_system(path: Path) -> list[Check]:
    found = file_system_of(path)
    if found is None:
        return [Check("file_system", Level.SKIP, "this system does not say")]
    if found.is_volatile:
        words = f"{path} lies on {found.kind}: it goes with the container or the next boot"
        advice = "mount a volume and point DATABASE_URL there; a lost ledger is rebuilt by discover"
        return [Check("file_system", Level.WARN, words, advice)]
    if found.is_network:
        return []  # opening it fails, and says so
    return [Check("file_system", Level.PASS, f"{found.kind}, mounted at {found.mounted_at}")]


def _check_others(real: Path) -> Check:
    if words := open_to_others(real):
        advice = f"chmod o-rw {real}, and o-w for its folder: it shows what you mirror, and a run obeys it"
        return Check("others", Level.WARN, f"{real}: {words}", advice)
    return Check("others", Level.PASS, "no other user may read or write it")


def _check_room(path: Path) -> Check:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    words = f"{format_size(free)} free"
    if free < FREE_BYTES_MIN:
        return Check("room", Level.WARN, words, f"keep {format_size(FREE_BYTES_MIN)} free: a full disk stops all work")
    return Check("room", Level.PASS, words)
