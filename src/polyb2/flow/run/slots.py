"""The bound of the process: ``--concurrency`` slots, shared by the files in flight.

A file keeps the slot it was claimed with until its last part is started, and takes further slots as they are free, so
that one large file can use them all. While a claim waits for a slot, a quarter of the slots is kept from
further parts: a 172 GB file does not hold up the small ones.

Where the process or the line is the bottleneck, fewer bodies than slots move: no more at once than helps
(``core/concurrency.py``). Long bodies are limited by the thread's time and by the line, short ones only by a line that is
known to be crowded. Invariants: a waiting body holds a slot, and a moving body never waits here, so that it always opens
again; while bodies move, line and thread are sampled.
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

RESERVED_SHARE = 4
"""One slot in this many is kept from further parts while a claim waits: small files pass, and a
large one keeps three quarters."""
LOOK_EVERY_S = 0.1


class Slot:
    """The right to one body transfer; given back by :meth:`release`, any number of times."""

    def __init__(self, slots: Slots, *, extra: bool, idle: bool) -> None:
        self._slots = slots
        self.extra = extra
        self.idle = idle
        self._held = True

    def begin(self) -> None:
        """Mark it as used by a file; until then it is held, but no transfer is busy."""
        if self.idle:
            self.idle = False
            self._slots.idle -= 1

    def release(self) -> None:
        if self._held:
            self.begin()
            self._held = False
            self._slots.give_back(self)

    async def rest(self, delay_s: float) -> None:
        """Back off without holding the slot, then get one again."""
        self.release()
        await asyncio.sleep(delay_s)
        again = await self._slots.for_part()
        self.extra, self._held = again.extra, True


class Slots:
    """Counts the slots and decides which waiter gets a free one."""

    def __init__(self, total: int, traffic: Traffic | None = None) -> None:
        """``traffic`` knows the bodies in transfer."""
        self.total = total
        self.limit = ConcurrencyLimit(total, traffic)
        self._free = total
        self._extra = 0
        self.idle = 0
        """Slots that are held while the ledger is asked for a file."""
        self._claims: deque[asyncio.Future[Slot]] = deque()
        self._parts: deque[asyncio.Future[Slot]] = deque()

    @property
    def in_use(self) -> int:
        """Slots that are held."""
        return self.total - self._free

    @property
    def busy(self) -> int:
        """Slots that are held for a file which does not wait for the concurrency limit."""
        return self.in_use - self.idle - self.limit.waiting

    async def for_claim(self) -> Slot:
        """Get a slot to claim a file with."""
        return await self._wait(self._claims)

    async def for_part(self) -> Slot:
        """Get a slot for one more part of a file that is in flight."""
        return await self._wait(self._parts)

    def free_for_claims(self, count: int) -> list[Slot]:
        """Up to ``count`` further slots that no task waits for."""
        taken: list[Slot] = []
        while len(taken) < count and self._free and not self._claims and not self._parts:
            taken.append(self._take(extra=False, idle=True))
        return taken

    def give_back(self, slot: Slot) -> None:
        self._free += 1
        self._extra -= slot.extra
        self._grant()

    async def _wait(self, queue: deque[asyncio.Future[Slot]]) -> Slot:
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._grant()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                turn.result().release()
            elif turn in queue:
                queue.remove(turn)
            raise

    def _grant(self) -> None:
        while self._free:
            queue = self._next_queue()
            if queue is None:
                return
            turn = queue.popleft()
            if turn.done():
                continue
            extra = queue is self._parts
            turn.set_result(self._take(extra=extra, idle=not extra))

    def _take(self, *, extra: bool, idle: bool) -> Slot:
        self._free -= 1
        self._extra += extra
        self.idle += idle
        return Slot(self, extra=extra, idle=idle)

    def _next_queue(self) -> deque[asyncio.Future[Slot]] | None:
        reserved = self.total // RESERVED_SHARE if self._claims else 0
        if self._parts and self._extra < self.total - reserved:
            return self._parts
        return self._claims or self._parts or None


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
