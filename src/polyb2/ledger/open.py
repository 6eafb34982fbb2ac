"""The way in: a URL becomes an open ledger. Nothing else knows the schemes of URLs, and nothing outside ``ledger/`` a path.

The settings check a URL here at every command, so what a store needs is imported when it is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polyb2.clock import Clock
from polyb2.core.errors import UsageError
from polyb2.core.scrub import escape

if TYPE_CHECKING:
    from polyb2.ledger.busy_retry import Rule
    from polyb2.ledger.ledger import Ledger
    from polyb2.ledger.rows import Check
    from polyb2.ledger.store import Store

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_EXAMPLE = "write sqlite:///data/polyb2.db"
_INSTALL = "pip install --no-deps --require-hashes -r requirements/postgres.txt"
_SHOWN_MAX = 100


async def open_ledger(
    url: str,
    clock: Clock | None = None,
    *,
    read_only: bool = False,
    make_new: bool = True,
    retry: Rule | None = None,
) -> Ledger:
    """Open the ledger that a URL names; the one way in, and once in a process.

    Args:
        url: as :func:`check_url` takes it; a relative path is relative to the working directory.
        clock: of this host.
        read_only: cannot write, and makes no ledger.
        make_new: make a ledger where there is none; else that is an empty one that is gone when it is closed.
        retry: tells how long to try again while the open ledger cannot be used; None for the rule of a command.

    Raises:
        UsageError: the place is unusable, or holds something that is not a ledger for this version.
        LedgerError: another process held the ledger for half a minute, or it cannot be used.
    """
    from polyb2.ledger.ledger import Ledger  # noqa: PLC0415 - see above

    clock = clock or Clock()
    opening = _open_postgres if url.startswith(_POSTGRES) else _open_sqlite
    return Ledger(await opening(url, clock, read_only=read_only, make_new=make_new, retry=retry), clock)


async def _open_sqlite(url: str, clock: Clock, *, read_only: bool, make_new: bool, retry: Rule | None) -> Store:
    from polyb2.ledger.sqlite.store import open_store  # noqa: PLC0415 - see above

    return await open_store(_path(url), clock, read_only=read_only, make_new=make_new, retry=retry)


async def _open_postgres(url: str, clock: Clock, *, read_only: bool, make_new: bool, retry: Rule | None) -> Store:
    try:
        from polyb2.ledger.postgres.open import open_store  # noqa: PLC0415 - see above
    except ModuleNotFoundError:
        raise UsageError(
            f"a ledger in PostgreSQL needs psycopg, of the extra polyb2[postgres]: {_INSTALL}; the container image has it"
        ) from None

    return await open_store(url, clock, read_only=read_only, make_new=make_new, retry=retry)


def examine_place(url: str) -> list[Check]:
    """The checks of ``doctor`` that come before the ledger is opened."""
    from polyb2.ledger.sqlite.checks import check_place  # noqa: PLC0415 - see above

    return [] if url.startswith(_POSTGRES) else check_place(_path(url))


def check_makeable(url: str) -> None:
    """Check that a ledger can be made where there is none yet, and make none.

    Raises:
        UsageError: it cannot.
    """
    from polyb2.ledger.sqlite.file_system import find  # noqa: PLC0415 - see above
    from polyb2.ledger.sqlite.files import check_makeable as check  # noqa: PLC0415

    check(find(_path(url)))


def check_url(url: str) -> str:
    """The URL, if a ledger can be there as far as the URL tells.

    Raises:
        ValueError: it cannot; in words for the user.
    """
    if url.startswith(_POSTGRES):
        return url
    if not url.startswith(_SQLITE) or url == _SQLITE:
        raise ValueError(
            f"{url.split('://', 1)[0][:_SHOWN_MAX]!r} is not a ledger URL: {_EXAMPLE} or postgresql://user@host/database"
        )
    if words := _not_of_a_file(url.removeprefix(_SQLITE)):
        raise ValueError(f"{words}: {_EXAMPLE}")
    return url


def _not_of_a_file(path: str) -> str:
    """Words for what in a path means something else to other programs, and would become a part of a file's name here."""
    if found := next((mark for mark in "?#" if mark in path), ""):
        return f"holds {found!r}, and a ledger takes no parameters"
    if path == ":memory:":
        return "a ledger in memory would be gone with the process"
    if path.startswith("~"):
        return "begins with '~', which only a shell replaces"
    return "holds control characters" if escape(path) != path else ""


def _path(url: str) -> Path:
    return Path(url.removeprefix(_SQLITE))
