"""One advisory file lock beside the ledger, for SQLite versions with the WAL-reset bug.

SQLite 3.7.0 to 3.51.2 (but 3.44.6 and 3.50.7) can corrupt a WAL database that two connections write or checkpoint at once
(https://sqlite.org/wal.html, the WAL-reset bug). There, every write transaction, open and close runs under the lock
``<database>.lock``, which the kernel gives back when its process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyb2 import descriptors
from polyb2.core.errors import LedgerError, UsageError
from polyb2.ledger.sqlite.errors import busy
from polyb2.ledger.sqlite.file_system import LOCK, beside, translated_os
from polyb2.ledger.sqlite.files import open_lock

BUSY_TRY_S = 2.0
"""One try waits this long for another process, on the connection's thread; ``busy_retry.py`` decides on a further one."""
_LOCK_POLL_S = 0.002
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """True if two connections of this SQLite may corrupt a WAL database."""
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 44, 6) <= version < (3, 45, 0) or (3, 50, 7) <= version < (3, 51, 0))


class FileLock:
    """An advisory lock on ``<database>.lock``, between processes and between the connections of one.

    One file has one lock, as ``real`` is its real path (``file_system.find``). A reader takes the lock where there is one and
    makes none: without one no process with this bug writes, and a reader's connection changes nothing.
    """

    def __init__(self, real: Path, *, needed: bool, reading: bool = False) -> None:
        self._real = real
        self._path = str(beside(real, LOCK))
        self._needed = needed
        self._reading = reading

    def make(self) -> None:
        """Create the file, where a lock is needed; UsageError where it cannot be."""
        if self._needed:
            path = beside(self._real, LOCK)
            with translated_os(path):
                try:
                    os.close(open_lock(self._real, may_make=True))
                except OSError as error:
                    if words := _cure(path, error):
                        raise UsageError(words) from error
                    raise

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
        descriptor = self._acquired()
        if descriptor is None:
            yield
            return
        try:
            yield
        finally:
            os.close(descriptor)

    def _acquired(self) -> int | None:
        """The lock's descriptor once it is ours; None for a reader where there is no lock."""
        deadline = time.monotonic() + BUSY_TRY_S
        while True:
            try:
                descriptor = open_lock(self._real, may_make=not self._reading)
            except FileNotFoundError as error:
                if self._reading:
                    return None
                raise self._unusable(error) from error
            except OSError as error:
                raise self._unusable(error) from error
            try:
                _acquire(descriptor, deadline)
                if self._is_current(descriptor):
                    return descriptor
            except BaseException:  # raised again
                os.close(descriptor)
                raise
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise busy("its lock file is replaced again and again")

    def _is_current(self, descriptor: int) -> bool:
        """True if the file that was locked is still the one by that name; others would lock a new one."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(descriptor))

    def _unusable(self, error: OSError) -> LedgerError | UsageError:
        path = beside(self._real, LOCK)
        if words := _cure(path, error):
            return UsageError(words)
        words = descriptors.words(error) or f"{error.strerror}; check the disk"
        return LedgerError(f"the ledger's lock {path} cannot be opened: {words}", may_pass=True)


def _cure(path: Path, error: OSError) -> str | None:
    """Words for a lock that a person has to mend, where waiting or another place cures nothing."""
    if error.errno == errno.ELOOP:
        return f"{path} is a symbolic link, and a lock is not followed elsewhere: remove it"
    if error.errno == errno.EACCES and os.path.isfile(path):  # noqa: PTH113 - False, and no error, in a folder closed to us
        return f"the ledger's lock {path} may not be opened by this user: give it the owner and mode of the ledger"
    return None


def _acquire(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise busy("its lock is taken") from None
            time.sleep(_LOCK_POLL_S)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                raise UsageError(
                    f"the file system of the ledger has no locks ({error.strerror}), and without them two processes would "
                    "damage it; set DATABASE_URL to a local disk"
                ) from error
            raise LedgerError(
                f"the ledger's lock cannot be taken: {error.strerror}; check the disk", may_pass=True
            ) from error
        else:
            return
