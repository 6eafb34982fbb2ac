"""The bound of the process: ``--concurrency`` streams, shared by whatever files are in flight.

A file keeps the slot it was claimed with until its last part is under way, and takes further slots as they are free, so
that one large file can use them all. While somebody waits to claim another file, a quarter of the slots is kept from
further parts: a 172 GB file does not hold up the small ones. Where the process or the line is what the bytes wait for, fewer
streams than slots are at work (``flow/gate.py``).
"""

from __future__ import annotations

import asyncio
from collections import deque

from polyb2.flow.run.limit import ConcurrencyLimit
from polyb2.remote.traffic import Traffic

RESERVED_SHARE = 4


class Slot:
    """The right to one stream; given back by :meth:`release`, any number of times."""

    def __init__(self, streams: Slots, *, extra: bool, idle: bool) -> None:
        self._streams = streams
        self.extra = extra
        self.idle = idle
        self._held = True

    def begin(self) -> None:
        """There is a file for it; until then it is held, but no stream is busy."""
        if self.idle:
            self.idle = False
            self._streams.idle -= 1

    def release(self) -> None:
        if self._held:
            self.begin()
            self._held = False
            self._streams.give_back(self)

    async def rest(self, delay_s: float) -> None:
        """Back off without holding the slot, then get one again."""
        self.release()
        await asyncio.sleep(delay_s)
        again = await self._streams.for_part()
        self.extra, self._held = again.extra, True


class Slots:
    """Counts the slots and decides who gets a free one."""

    def __init__(self, total: int, traffic: Traffic | None = None) -> None:
        """``traffic`` knows the bodies that the streams carry."""
        self.total = total
        self.limit = ConcurrencyLimit(total, traffic)
        self._free = total
        self._extra = 0
        self.idle = 0
        """Slots that are held while the ledger is asked whether there is a file for them."""
        self._claims: deque[asyncio.Future[Slot]] = deque()
        self._parts: deque[asyncio.Future[Slot]] = deque()

    @property
    def in_use(self) -> int:
        """Slots that are held."""
        return self.total - self._free

    @property
    def busy(self) -> int:
        """Slots that are held for a file which does not wait at the gate."""
        return self.in_use - self.idle - self.limit.waiting

    async def for_claim(self) -> Slot:
        """A slot to claim a file with."""
        return await self._wait(self._claims)

    async def for_part(self) -> Slot:
        """A slot for one more part of a file that is in flight."""
        return await self._wait(self._parts)

    def free_for_claims(self, count: int) -> list[Slot]:
        """Up to ``count`` further slots that nobody waits for."""
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
