"""One advisory file lock beside the ledger, for SQLite versions with the WAL-reset bug; and SQLite's errors as ours.

SQLite 3.7.0 to 3.51.2 (but 3.44.6 and 3.50.7) can corrupt a WAL database that two connections write or checkpoint at once
(https://sqlite.org/wal.html, the WAL-reset bug). There, every write transaction, open and close runs under the lock
``<database>.lock``, which the kernel gives back when its process dies.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyb2.core.errors import LedgerBusyError, Polyb2Error, UsageError

BUSY_TIMEOUT_S = 30.0
_LOCK_POLL_S = 0.002


class LedgerError(Polyb2Error):
    """The ledger cannot be read or written: disk full, read-only, an I/O error."""


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether two connections of this SQLite may corrupt a WAL database."""
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 44, 6) <= version < (3, 45, 0) or (3, 50, 7) <= version < (3, 51, 0))


class FileLock:
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
