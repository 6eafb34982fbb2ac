"""From the command line into the event loop: the end of loading, and a signal's way to the end of the work.

``__main__`` puts the garbage collector off, as nothing that loading makes is garbage and looking through it took a fifth of
the start. Invariant: a command that waits for anything does it through here, with the collector on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from polyb2.signals import STOPPING, Stopped, answering
from polyb2.threads import none_left

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def in_loop(work: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a command's work to its end.

    Raises:
        Stopped: SIGTERM or SIGHUP ended it; what it held open is closed.
        UsageError: the system gives no threads.
    """
    import asyncio

    if not gc.isenabled():
        # What is loaded stays to the end: it is not to be looked through again and again.
        gc.freeze()
        gc.enable()
    terminated: list[int] = []
    try:
        with closing(work), asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_terminable(work, terminated))
    except asyncio.CancelledError:
        if terminated:
            raise Stopped(terminated[0]) from None
        raise
    except RuntimeError as error:
        raise none_left(error) or error from error


async def _terminable(work: Coroutine[Any, Any, T], terminated: list[int]) -> T:
    """Let SIGTERM and SIGHUP cancel the work, as ``asyncio.Runner`` does for SIGINT.

    Raised out of whatever the loop is about to do, an exit can take with it the very wake-up that closing waits for.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def cancel(number: int) -> None:
        terminated.append(number)
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)

    with answering(cancel, *STOPPING):
        return await task
