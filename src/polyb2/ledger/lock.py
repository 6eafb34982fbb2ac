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

from polyb2 import descriptors
from polyb2.core.errors import LedgerBusyError, LedgerError, UsageError

SQLITE_VERSION = sqlite3.sqlite_version
BUSY_TRY_S = 2.0
"""For how long one try waits for another process, on the connection's thread; who waits longer is ``patience.py``'s."""
_LOCK_POLL_S = 0.002
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_PASSING_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_PRIMARY_CODE = 0xFF


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

    def make(self) -> None:
        """Create the file, where a lock is needed; UsageError where it cannot be."""
        if self._needed:
            with translated_os(self._path):
                os.close(self._open())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            LedgerBusyError: another process held it for :data:`BUSY_TRY_S`.
            LedgerError: its file cannot be opened any more.
        """
        if not self._needed:
            yield
            return
        try:
            descriptor = self._open()
        except OSError as error:
            advice = _of_this_machine(error) or f"{error.strerror}; check the disk"
            raise LedgerError(f"the ledger's lock {self._path} cannot be opened: {advice}", may_pass=True) from error
        try:
            self._acquire(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + BUSY_TRY_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _busy("its lock is taken") from None
                time.sleep(_LOCK_POLL_S)
            else:
                return


@contextmanager
def translated() -> Iterator[None]:
    """SQLite's errors as ours, each with what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & _PRIMARY_CODE
        if code in _BUSY_CODES:
            raise _busy(str(error)) from error
        own, words = _of_this_machine(), f"{error}; check the disk and the folder's permissions"
        raise LedgerError(
            f"the ledger cannot be used: {own or words}",
            may_pass=bool(own) or code in _PASSING_CODES,
        ) from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"the ledger is damaged: {error}; move the file away and run polyb2 discover, which adopts what is in the bucket"
        ) from error


def _busy(words: str) -> LedgerBusyError:
    return LedgerBusyError(
        f"the ledger is busy: {words}; if that lasts, look for another polyb2 that hangs and stop it"
    )


@contextmanager
def translated_os(path: Path) -> Iterator[None]:
    """The file system's errors as a usage error that names the place."""
    try:
        yield
    except OSError as error:
        words = f"{error.strerror}; set DATABASE_URL to a place that can be written"
        raise UsageError(f"the ledger cannot be kept at {path}: {_of_this_machine(error) or words}") from error


def _of_this_machine(error: OSError | None = None) -> str:
    """The words for a want of open files, which SQLite does not tell from a bad disk; nothing else."""
    found = descriptors.problem(error)
    return f"{found}; {descriptors.ADVICE}" if found else ""
