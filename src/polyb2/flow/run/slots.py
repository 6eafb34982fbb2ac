"""The bound of the process: ``--concurrency`` slots, shared by the files in flight.

A file keeps the slot it was claimed with until its last part is started, and takes further slots as they are free, so
that one large file can use them all. While a claim waits for a slot, a quarter of the slots is kept from
further parts: a 172 GB file does not hold up the small ones. Where the process or the line is the bottleneck, fewer
bodies than slots move (``flow/run/limit.py``).
"""

from __future__ import annotations

import asyncio
from collections import deque

from polyb2.flow.run.limit import ConcurrencyLimit
from polyb2.remote.traffic import Traffic

RESERVED_SHARE = 4


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
