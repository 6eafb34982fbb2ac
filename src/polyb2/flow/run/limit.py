"""The concurrency limit of the bodies: no more of them move at once than helps (``core/concurrency.py``).

Long bodies are limited by the thread's time and by the line, short ones only by a line that is known to be crowded.
Invariants: a waiting body holds a slot, and a moving body never waits here, so that it always opens again; while
bodies move, line and thread are sampled.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from polyb2.core.concurrency import LineLimit, ThreadLimit
from polyb2.remote.pump import BUFFER_BYTES
from polyb2.remote.traffic import Traffic

LOOK_EVERY_S = 0.1


class ConcurrencyLimit:
    """Admits bodies, as many at once as thread and line can carry."""

    def __init__(
        self, slots: int, traffic: Traffic | None = None, worked_s: Callable[[], float] = time.thread_time
    ) -> None:
        """``traffic`` knows the moving bodies; ``worked_s`` reads the processor time of the event loop's thread."""
        self._thread = ThreadLimit(slots)
        self._line = LineLimit(slots)
        self._traffic = traffic or Traffic()
        self._worked_s = worked_s
        self._long = self._short = 0
        self._turns: deque[tuple[bool, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Bodies that wait."""
        return sum(not turn.done() for _, turn in self._turns)

    @asynccontextmanager
    async def passage(self, length: int) -> AsyncIterator[bool]:
        """Admit a body of ``length`` bytes, from its request to its end; yields whether it had to wait."""
        is_long = length > BUFFER_BYTES
        waits = not self._may_pass(is_long) or (bool(self._turns) and (is_long or self._line.is_crowded))
        if self._timer is None:
            self._look_later()
        if waits:
            await self._turn(is_long)
        else:
            self._enter(is_long)
        began_s = time.monotonic()
        try:
            yield waits
            self._line.through(time.monotonic() - began_s)
        finally:
            self._leave(is_long)

    def _may_pass(self, is_long: bool) -> bool:
        if is_long:
            moving = self._moving if self._line.is_crowded else self._long
            return moving < min(self._thread.bodies, self._line.bodies)
        return not self._line.is_crowded or self._moving < self._line.bodies

    @property
    def _moving(self) -> int:
        """The number of moving bodies; a short one is half of one, as it comes in whole before it goes out."""
        return self._long + (self._short + 1) // 2

    def _enter(self, is_long: bool) -> None:
        self._long += is_long
        self._short += not is_long

    def _leave(self, is_long: bool) -> None:
        self._long -= is_long
        self._short -= not is_long
        self._grant()

    async def _turn(self, is_long: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append((is_long, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(is_long)
            raise

    def _grant(self) -> None:
        while self._turns:
            is_long, turn = self._turns[0]
            if turn.done():
                self._turns.popleft()
            elif self._may_pass(is_long):
                self._turns.popleft()
                self._enter(is_long)
                turn.set_result(None)
            else:
                return

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        began_s, worked_s = time.monotonic(), self._worked_s()

        def look() -> None:
            self._timer = None
            if not self._long + self._short:
                return
            if self._turns:
                self._thread.look((self._worked_s() - worked_s) / (time.monotonic() - began_s))
            traffic = self._traffic
            self._line.look(loop.time(), traffic.passed_bytes, self._moving, traffic.lasting)
            self._grant()
            self._look_later()

        self._timer = loop.call_later(LOOK_EVERY_S, look)
