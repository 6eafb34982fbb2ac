"""Open files of this process: their limit, the slots that it allows, and errors that mean that none are left.

A socket, a name lookup and the ledger's own files all need one, and each fails with its own message.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack

from polyb2.core.errors import HANDLING, Kind

ADVICE = HANDLING[Kind.NO_OPEN_FILES].advice
_RESERVED = 24
"""Descriptors of the process itself: its streams, the loop, the ledger with its readers, the page and some clients."""
_PER_STREAM = 4
"""Two bodies, and the connections of both sides' control calls; each is kept for some seconds after its use."""
_AT_ONCE = 8
"""More than opening a ledger or looking up a name takes."""
_NONE_LEFT = {errno.EMFILE, errno.ENFILE}


def limit() -> int:
    """The number of files that this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> int:
    """Raise the limit as far as this user may; return the new one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def slots_that_fit(files: int) -> int:
    """The number of slots that this many open files allow; at least one."""
    return max(1, (files - _RESERVED) // _PER_STREAM)


def problem(error: BaseException | None = None) -> str:
    """The message if no descriptors are left, by an error or by trying; empty otherwise."""
    if any(number in _NONE_LEFT for number in _numbers(error)) or not _are_some_left():
        return f"hardly any of the {limit()} files that this process may have open is left"
    return ""


def words(error: BaseException | None = None) -> str:
    """The message of :func:`problem` with what to do about it, if there is one."""
    found = problem(error)
    return f"{found}; {ADVICE}" if found else ""


def _numbers(error: BaseException | None) -> Iterator[int | None]:
    """The system's numbers of an error and of its causes."""
    for _ in range(10):
        if error is None:
            return
        yield getattr(error, "errno", None)
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__


def _are_some_left() -> bool:
    """Tell by opening some: neither SQLite nor the resolver says what it lacked, and both have closed theirs by now."""
    with ExitStack() as taken:
        try:
            for _ in range(_AT_ONCE):
                taken.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error.errno not in _NONE_LEFT
    return True
