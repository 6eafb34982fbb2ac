"""PostgreSQL's errors as ours, each with what to do. No password is in any: what libpq says of a URL is not repeated.

Trouble of the server passes: a run waits for it and goes on. What a person must mend ends a command with words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from polyb2.core.errors import LedgerBusyError, LedgerError, LedgerGoneError, UsageError
from polyb2.core.scrub import one_line

AGAIN = (pg.DeadlockDetected, pg.SerializationFailure)
"""Errors that undid a transaction because of another: it is run again at once."""
_GONE = (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedFunction)
_REFUSED = (pg.InvalidPassword, pg.InvalidAuthorizationSpecification)
_SIGN_IN = (
    "correct user, password and database in DATABASE_URL (in a URL special characters are written like %40 for @)"
)
GRANTS = (
    "let the owner of the schema run GRANT USAGE ON SCHEMA polyb2 TO the_user, GRANT ALL ON ALL TABLES IN SCHEMA polyb2 TO "
    "the_user and the same ON ALL SEQUENCES, or use its owner in DATABASE_URL"
)
RIGHTS = "give the user CREATE on the database, or create its schema: CREATE SCHEMA polyb2 AUTHORIZATION the_user"
_REFUSED_WORDS = re.compile(r"FATAL: .*(does not exist|authentication failed|pg_hba\.conf)")
"""libpq says of a connection that failed no more than words: the server's, as long as it speaks English."""
_READ_ONLY_WORDS = "session is read-only"
"""libpq's own, of target_session_attrs=read-write."""
_OF_A_HOST = re.compile(r"^- host: .*?, hostaddr: [^:]*: (?:connection failed: )?(.*)$", re.MULTILINE)
"""psycopg's lines where several hosts were tried."""
_BUSY = (pg.LockNotAvailable, pg.QueryCanceled, pg.TooManyConnections)
_FULL = (pg.DiskFull, pg.OutOfMemory, pg.InsufficientResources, pg.ConfigurationLimitExceeded)


def ends_connection(error: psycopg.Error) -> bool:
    """True for an error after which a session is not to be used again: it is lost, or the server takes no writes any more."""
    return isinstance(error, (pg.ReadOnlySqlTransaction, pg.IdleInTransactionSessionTimeout)) or (
        isinstance(error, psycopg.OperationalError) and not isinstance(error, (*AGAIN, *_BUSY, *_FULL))
    )


@contextmanager
def translated(place: str, *, is_first: bool) -> Iterator[None]:
    """Raise what psycopg raises as an error of ours; a mistake of the program stays what it is.

    ``is_first``: the server was never reached before, so that a refusal is one of the settings, and no trouble that passes.
    """
    try:
        yield
    except _GONE as error:
        raise LedgerGoneError(
            f"the ledger in {place} is gone: its schema polyb2 was removed or replaced; restore it from a backup, or let "
            "polyb2 discover make it again: it adopts what is in the bucket"
        ) from error
    except _BUSY as error:
        raise LedgerBusyError(f"the ledger in {place} is busy: {_words(error)}") from error
    except pg.InsufficientPrivilege as error:
        lacks_create = "database" in str(error.diag.message_primary)
        raise UsageError(f"PostgreSQL refuses: {_words(error)}; {RIGHTS if lacks_create else GRANTS}") from error
    except _REFUSED as error:
        words = f"PostgreSQL refuses: {_words(error)}; {_SIGN_IN}"
        raise (UsageError(words) if is_first else LedgerError(words, may_pass=True)) from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # libpq's, of a setting in the URL. Its words may quote a piece of the password.
        raise UsageError(
            "DATABASE_URL has a setting that libpq does not take: look at what follows its question mark"
        ) from None
    except (psycopg.OperationalError, pg.ReadOnlySqlTransaction, *_FULL) as error:
        if is_first and _REFUSED_WORDS.search(str(error)):
            raise UsageError(f"PostgreSQL refuses: {_words(error)}; {_SIGN_IN}") from error
        advice = "check the server; polyb2 doctor looks at it"
        if isinstance(error, pg.ReadOnlySqlTransaction) or _READ_ONLY_WORDS in str(error):
            advice = "it is a standby, or read-only by its settings: name the server that takes writes in DATABASE_URL"
        raise LedgerError(f"the ledger in {place} cannot be used: {_words(error)}; {advice}", may_pass=True) from error


def _words(error: psycopg.Error) -> str:
    """The server's own words without context and hint, or libpq's: the first line, or one for each host."""
    if words := error.diag.message_primary:
        return one_line(words)
    hosts = _OF_A_HOST.findall(str(error))
    lines = hosts or str(error).splitlines()[:1] or [type(error).__name__]
    return one_line("; ".join(lines).removeprefix("connection failed: "))
