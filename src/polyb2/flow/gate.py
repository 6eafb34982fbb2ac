"""The gate of the long bodies: no more of them move at once than helps (``core/level.py``); short ones never wait.

Invariants: who waits here holds a slot, and nobody who moves waits for the gate, so that it always opens again; while
somebody waits, the level is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from polyb2.core.level import Level
from polyb2.remote.pump import BUFFER_BYTES

LOOK_EVERY_S = 0.1


class Gate:
    """Lets long bodies through, as many at once as the level says."""

    def __init__(self, streams: int, worked_s: Callable[[], float] = time.thread_time) -> None:
        """``worked_s`` reads the processor time of the event loop's thread."""
        self._level = Level(streams)
        self._worked_s = worked_s
        self._moving = 0
        self._turns: deque[asyncio.Future[None]] = deque()
        self._look: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Bodies that wait."""
        return sum(not turn.done() for turn in self._turns)

    @asynccontextmanager
    async def passage(self, length: int) -> AsyncIterator[bool]:
        """The way of a body of ``length`` bytes, from its request to its end; whether it had to wait."""
        if length <= BUFFER_BYTES:
            yield False
            return
        waits = bool(self._turns) or self._moving >= self._level.bodies
        if waits:
            await self._turn()
        else:
            self._moving += 1
        try:
            yield waits
        finally:
            self._leave()

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        if self._look is None:
            self._look_later()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._moving -= 1
        self._grant()

    def _grant(self) -> None:
        while self._turns and self._moving < self._level.bodies:
            turn = self._turns.popleft()
            if not turn.done():
                self._moving += 1
                turn.set_result(None)

    def _look_later(self) -> None:
        began_s, worked_s = time.monotonic(), self._worked_s()

        def look() -> None:
            self._look = None
            self._level.look((self._worked_s() - worked_s) / (time.monotonic() - began_s))
            self._grant()
            if self._turns:
                self._look_later()

        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, look)
