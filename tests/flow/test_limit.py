"""The concurrency limit admits every long body: all at once where the thread has time, a few at once where it has none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from polyb2.core.concurrency import FEW, LineLimit, ThreadLimit
from polyb2.flow.mirror import DrainedError
from polyb2.flow.run.slots import ConcurrencyLimit
from polyb2.flow.transfer.body import tried
from polyb2.remote.pump import BUFFER_BYTES
from polyb2.remote.traffic import Traffic
from tests.conftest import Bench

LONG = BUFFER_BYTES + 1


class Plenty(Traffic):
    """More bytes than any number of bodies needs."""

    @property
    def passed_bytes(self) -> int:
        return time.monotonic_ns()


class Crowd:
    """Bodies that pass the limit, each until it is released."""

    def __init__(self, gate: ConcurrencyLimit, count: int, length: int = LONG) -> None:
        self.moving = self.most = 0
        self.arrived = asyncio.Semaphore(0)
        self.end = asyncio.Event()
        self.tasks = [asyncio.create_task(self._pass(gate, length)) for _ in range(count)]

    async def _pass(self, gate: ConcurrencyLimit, length: int) -> None:
        async with gate.passage(length):
            self.moving += 1
            self.most = max(self.most, self.moving)
            self.arrived.release()
            await self.end.wait()
            self.moving -= 1

    async def have_arrived(self, count: int) -> None:
        async with asyncio.timeout(10):
            for _ in range(count):
                await self.arrived.acquire()


async def test_all_move_at_once_where_the_thread_has_time() -> None:
    crowd = Crowd(ConcurrencyLimit(32, Plenty()), 32)
    await crowd.have_arrived(32)
    assert crowd.moving == 32
    crowd.end.set()
    await asyncio.gather(*crowd.tasks)


async def test_a_few_at_once_where_it_has_none_and_each_in_its_turn() -> None:
    gate = ConcurrencyLimit(32, Plenty(), worked_s=time.monotonic)
    crowd = Crowd(gate, 40)
    await crowd.have_arrived(FEW)
    await looks(gate._thread, 5)
    assert (crowd.moving, gate.waiting) == (FEW, 40 - FEW)
    crowd.end.set()
    await asyncio.wait_for(asyncio.gather(*crowd.tasks), 10)
    assert (crowd.most, gate.waiting) == (FEW, 0)


async def test_short_bodies_do_not_wait_where_the_line_has_room() -> None:
    gate = ConcurrencyLimit(2, Plenty(), worked_s=time.monotonic)
    crowd = Crowd(gate, 2)
    await crowd.have_arrived(2)
    await looks(gate._line, 3)
    async with gate.passage(BUFFER_BYTES) as has_waited:
        assert not has_waited
    crowd.end.set()
    await asyncio.gather(*crowd.tasks)


async def test_who_is_cancelled_takes_nobodys_turn() -> None:
    gate = ConcurrencyLimit(1, Plenty(), worked_s=time.monotonic)
    async with gate.passage(LONG):
        early, late = (asyncio.create_task(passed(gate)) for _ in range(2))
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.gather(early, return_exceptions=True)
        assert gate.waiting == 1
    late.cancel()  # its turn has come, and it has not noticed yet
    await asyncio.gather(late, return_exceptions=True)
    assert late.cancelled()
    assert await asyncio.wait_for(passed(gate), 10) is False


async def test_who_waited_begins_nothing_once_the_process_stops(bench: Bench) -> None:
    async with bench.open(polyb2_concurrency=1) as mirror:
        slot = await mirror.slots.for_claim()
        began: list[bool] = []

        async def once(fresh: bool) -> None:
            began.append(fresh)

        async with mirror.slots.limit.passage(LONG):
            waiting = asyncio.create_task(tried(mirror, slot, LONG, once))
            await asyncio.sleep(0)
            mirror.draining.set()
        with pytest.raises(DrainedError):
            await waiting
        assert not began
        await tried(mirror, slot, LONG, once)
        assert began == [False], "what holds its slot and need not wait ends in the time that a stop leaves"


async def passed(gate: ConcurrencyLimit) -> bool:
    async with gate.passage(LONG) as has_waited:
        return has_waited


async def looks(at: ThreadLimit | LineLimit, count: int) -> None:
    """Wait until the limit has taken this many samples."""
    seen = 0
    look: Callable[..., None] = at.look
    enough = asyncio.Event()

    def looked(*figures: float) -> None:
        nonlocal seen
        look(*figures)
        seen += 1
        if seen == count:
            enough.set()

    at.look = looked  # type: ignore[method-assign,assignment]
    await asyncio.wait_for(enough.wait(), 10)
