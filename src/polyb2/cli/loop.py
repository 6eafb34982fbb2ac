"""From the command line into the event loop: a signal's way to the end of the work, and a question on the way.

Invariant: a command that waits for anything does it through here, with the garbage collector on (``process.py``).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from polyb2 import descriptors
from polyb2.process import end_loading
from polyb2.signals import STOPPING, Stopped, answering
from polyb2.threads import are_plenty, none_left

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def in_loop(work: Coroutine[Any, Any, T], *, fastest: bool = False) -> T:
    """Run a command's work to its end.

    Args:
        work: of the command.
        fastest: in uvloop's loop, where that can be had.

    Raises:
        Stopped: SIGTERM or SIGHUP ended it; what it held open is closed.
        UsageError: the system gives no threads.
    """
    import asyncio

    end_loading()
    terminated: list[int] = []
    try:
        with closing(work), asyncio.Runner(loop_factory=_uvloop() if fastest else None) as runner:
            return runner.run(_terminable(work, terminated))
    except asyncio.CancelledError:
        if terminated:
            raise Stopped(terminated[0]) from None
        raise
    except RuntimeError as error:
        raise none_left(error) or error from error


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where that is installed (``polyb2[speed]``) and has its threads, else None.

    Raises:
        OSError: there are no open files left, of which uvloop would log an error in its own words.
    """
    descriptors.raise_limit()
    if descriptors.problem():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if not are_plenty():
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _terminable(work: Coroutine[Any, Any, T], terminated: list[int]) -> T:
    """Let SIGTERM and SIGHUP cancel the work, as ``asyncio.Runner`` does for SIGINT; a second one ends it where it stands.

    Raised out of whatever the loop is about to do, an exit can take with it the very wake-up that closing waits for. Output
    whose reader takes nothing, however, holds up the loop itself, and only a raise ends the wait for that.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def cancel(number: int) -> None:
        if terminated:
            raise Stopped(number)
        terminated.append(number)
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)

    with answering(cancel, *STOPPING):
        return await task


async def confirm(question: str) -> bool:
    """Ask for a yes on the terminal, while the loop goes on; anything else is a no, and so is the end of the input."""
    import asyncio

    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    # A terminal is readable once a whole line is there.
    loop.add_reader(sys.stdin, answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
