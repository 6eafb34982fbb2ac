"""The way in: a URL becomes an open ledger. Nothing else knows the schemes of URLs, and nothing outside ``ledger/`` a path.

The settings check a URL here at every command, so what a store needs is imported when it is opened.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
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
_EXAMPLE = "write sqlite:///data/polyb2.db or postgresql://host/database"
_INSTALL = "pip install --no-deps --require-hashes -r requirements/postgres.txt"
_SHOWN_MAX = 100


async def open_ledger(
    url: str,
    clock: Clock | None = None,
    *,
    read_only: bool = False,
    make_new: bool = True,
    unfinished: bool = False,
    retry: Rule | None = None,
) -> Ledger:
    """Open the ledger that a URL names; the one way in, and once in a process.

    Args:
        url: as :func:`check_url` takes it; a relative path is relative to the working directory.
        clock: of this host.
        read_only: cannot write, and makes no ledger.
        make_new: make a ledger where there is none; else that is an empty one that is gone when it is closed.
        unfinished: open even a copy that did not end, to begin it again.
        retry: tells how long to try again while the open ledger cannot be used; None for the rule of a command.

    Raises:
        UsageError: the place is unusable, or holds something that is not a ledger for this version.
        LedgerError: another process held the ledger for half a minute, or it cannot be used.
    """
    from polyb2.ledger.ledger import Ledger  # noqa: PLC0415 - see above

    clock = clock or Clock()
    opening = _open_postgres if url.startswith(_POSTGRES) else _open_sqlite
    ledger = Ledger(await opening(url, clock, read_only=read_only, make_new=make_new, retry=retry), clock)
    if not unfinished:
        await _refuse_unfinished(ledger)
    return ledger


async def _refuse_unfinished(ledger: Ledger) -> None:
    from polyb2.ledger.tables import UNFINISHED  # noqa: PLC0415 - see above

    is_whole = False
    try:
        is_whole = not ledger.exists or await ledger.fact(UNFINISHED) is None
    finally:
        if not is_whole:
            await ledger.close()
    if not is_whole:
        raise UsageError(
            f"the ledger in {ledger.place} is a copy that did not end: run polyb2 ledger copy again, which begins it "
            "again, or set DATABASE_URL to the ledger that was copied"
        )


async def _open_sqlite(url: str, clock: Clock, *, read_only: bool, make_new: bool, retry: Rule | None) -> Store:
    from polyb2.ledger.sqlite.store import open_store  # noqa: PLC0415 - see above

    return await open_store(_path(url), clock, read_only=read_only, make_new=make_new, retry=retry)


async def _open_postgres(url: str, clock: Clock, *, read_only: bool, make_new: bool, retry: Rule | None) -> Store:
    """Where there is no ledger and none is made, it is SQLite's empty one in memory."""
    from polyb2.ledger.sqlite.store import empty_store  # noqa: PLC0415 - see above

    postgres = _postgres()
    store = await postgres.open_store(url, read_only=read_only, make_new=make_new, retry=retry)
    return store or await empty_store(clock, postgres.place_of(url))


def _postgres() -> ModuleType:
    """The way into the store on PostgreSQL.

    Raises:
        UsageError: its driver is not installed.
    """
    try:
        return import_module("polyb2.ledger.postgres.open")
    except ImportError as error:
        # psycopg without a libpq of the system's is an ImportError as well.
        raise UsageError(
            f"a ledger in PostgreSQL needs psycopg, of the extra polyb2[postgres]: {_INSTALL}; the container image has it"
        ) from error


def examine_place(url: str) -> list[Check]:
    """The checks of ``doctor`` that come before the ledger is opened."""
    from polyb2.ledger.sqlite.checks import check_place  # noqa: PLC0415 - see above

    return [] if url.startswith(_POSTGRES) else check_place(_path(url))


async def check_makeable(url: str) -> list[Check]:
    """Check that a ledger can be made where there is none yet, and make none; the checks of its place.

    Raises:
        UsageError: it cannot.
        LedgerError: the place cannot be reached.
    """
    if url.startswith(_POSTGRES):
        checks: list[Check] = await _postgres().check_makeable(url)
        return checks
    from polyb2.ledger.sqlite.checks import check_files  # noqa: PLC0415 - see above
    from polyb2.ledger.sqlite.file_system import find  # noqa: PLC0415
    from polyb2.ledger.sqlite.files import check_makeable as check  # noqa: PLC0415

    check(find(_path(url)))
    return check_files(_path(url), exists=_path(url).exists())


async def schema_version(url: str) -> int:
    """The version of the schema as it is, 0 where there is no ledger; nothing is made or changed.

    Raises:
        UsageError: there is something else than a ledger for this version.
        LedgerError: it cannot be used.
    """
    if url.startswith(_POSTGRES):
        version: int = await _postgres().find_version(url)
        return version
    from polyb2.ledger.sqlite.store import find_version  # noqa: PLC0415 - see above

    return await find_version(_path(url))


def are_same(url: str, other: str) -> bool:
    """True for two URLs of one place, as far as they tell."""
    if url.startswith(_POSTGRES) and other.startswith(_POSTGRES):
        postgres = _postgres()
        return bool(postgres.place_of(url) == postgres.place_of(other))
    from polyb2.ledger.sqlite.file_system import find  # noqa: PLC0415 - see above

    is_file = not url.startswith(_POSTGRES) and not other.startswith(_POSTGRES)
    return is_file and find(_path(url)) == find(_path(other))


def check_url(url: str) -> str:
    """The URL, if a ledger can be there as far as the URL tells.

    Raises:
        ValueError: it cannot; in words for the user.
    """
    if url.startswith(_POSTGRES):
        return url
    if not url.startswith(_SQLITE) or url == _SQLITE:
        # Without a scheme, the first of it may be a password.
        scheme = url.partition("://")[0][:_SHOWN_MAX] if "://" in url else ""
        raise ValueError(f"{repr(scheme) if scheme else 'this'} is not a ledger URL: {_EXAMPLE}")
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
