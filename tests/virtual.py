"""An event loop whose clock jumps to the next timer, so that hours pass in a moment and no test waits.

Only for code without real I/O: what waits for a socket or a thread is never woken here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; when nothing is, it is the time of the next timer."""

    _now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass, as a thread that is blocked does."""
        self._now_s += seconds

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        # A cancelled timer may be the first in line for long, and the loop would really wait for the one behind it.
        live = (timer.when() for timer in timers if not timer.cancelled())
        if not self._ready:  # type: ignore[attr-defined]
            self._now_s = max(self._now_s, min(live, default=self._now_s))
        super()._run_once()  # type: ignore[misc]


def play(scene: Coroutine[Any, Any, T], within_s: float = 3600.0) -> T:
    """Run a scene to its end; TimeoutError if it takes longer, by its own clock."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(asyncio.wait_for(scene, within_s))
    finally:
        loop.close()
