"""SQLite's errors as ours, each with what to do."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from polyb2 import descriptors
from polyb2.core.errors import LedgerBusyError, LedgerError, UsageError

PRIMARY_CODE = 0xFF
"""The bits of an extended error code that tell its kind."""
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_PASSING_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite raises as an error of ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & PRIMARY_CODE
        if code in _BUSY_CODES:
            raise busy(str(error)) from error
        own, words = descriptors.words(), f"{error}; check the disk and the folder's permissions{_file_size_limit()}"
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


def _file_size_limit() -> str:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return "" if limit == resource.RLIM_INFINITY else f", and ulimit -f, which allows files of {limit} bytes"


def busy(words: str) -> LedgerBusyError:
    return LedgerBusyError(
        f"the ledger is busy: {words}; if that lasts, look for another polyb2 that hangs and stop it"
    )
