"""Threads of this process, which the system may refuse: ``ulimit -u``, or a container's limit of pids.

libuv, of uvloop, aborts the whole process if it gets none, so they are tried before it is used for a run.
"""

from __future__ import annotations

import threading

from polyb2.core.errors import UsageError

_AT_ONCE = 8
"""The ledger's connections, and the four that libuv starts for its first name lookup."""
_AT_LEAST = 4
"""Enough for asyncio's own loop, which raises if it gets none."""
_PYTHONS_WORDS = "can't start new thread"


def are_plenty() -> bool:
    """Tell if there are as many as libuv may ask for, by starting them and letting them end.

    Raises:
        UsageError: there are too few for any run.
    """
    enough, taken = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(_AT_ONCE):
            thread = threading.Thread(target=enough.wait, name="probe", daemon=True)
            thread.start()
            taken.append(thread)
    except RuntimeError as error:
        if len(taken) < _AT_LEAST:
            raise none_left(error) or error from error
    finally:
        enough.set()
        for thread in taken:
            thread.join()
    return len(taken) == _AT_ONCE


def none_left(error: RuntimeError) -> UsageError | None:
    """The message if an error means that no threads are left; None otherwise."""
    if _PYTHONS_WORDS not in str(error):
        return None
    return UsageError(
        "the system does not let this process start more threads: raise the limit of processes (ulimit -u; TasksMax= of "
        "systemd; the pids limit of a container), or that of memory (ulimit -v)"
    )
