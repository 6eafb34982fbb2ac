"""SQLite's errors as ours, each with what to do."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from polyb2 import descriptors
from polyb2.core.errors import LedgerBusyError, LedgerError, UsageError

_PRIMARY_CODE = 0xFF
"""The bits of an extended error code that tell its kind."""
_DAMAGED_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
OF_A_STATEMENT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""Errors of one statement and its values: mistakes of the program, which say nothing of the ledger."""
CANNOT_OPEN_CODES = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_CURABLE_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, *CANNOT_OPEN_CODES}


def code_of(error: BaseException | None) -> int:
    """The primary code of SQLite's error; 0 for one of Python's own, or another library's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY_CODE


@contextmanager
def translated() -> Iterator[None]:
    """Raise SQLite's trouble as an error of ours; a mistake of a statement goes through, as what it is."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = code_of(error)
        if code in _BUSY_CODES:
            raise busy(str(error)) from error
        own, words = descriptors.words(), f"{error}; check the disk and the folder's permissions{_file_size_limit()}"
        raise LedgerError(
            f"the ledger cannot be used: {own or words}",
            may_pass=bool(own) or code in _CURABLE_CODES,
        ) from error
    except sqlite3.DatabaseError as error:
        if code_of(error) not in _DAMAGED_CODES:
            raise
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
