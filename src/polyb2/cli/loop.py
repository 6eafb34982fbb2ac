"""From the command line into the event loop: the end of loading.

``__main__`` puts the garbage collector off, as nothing that loading makes is garbage and looking through it took a fifth of
the start. Invariant: a command that waits for anything does it through here, with the collector on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def in_loop(work: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a command's work to its end."""
    import asyncio

    if not gc.isenabled():
        # What is loaded stays to the end: it is not to be looked through again and again.
        gc.freeze()
        gc.enable()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)
