"""The allocation of slots: never more than there are, parts before claims, and a quarter kept while a claim waits."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from polyb2.flow.run.slots import Slot, Slots


async def taken(waiting: asyncio.Task[Slot]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return waiting.done()


async def test_one_file_may_use_every_slot() -> None:
    streams = Slots(8)
    await streams.for_claim()
    for _ in range(7):
        await asyncio.wait_for(streams.for_part(), 1)
    assert streams.in_use == 8


async def test_a_quarter_is_kept_for_whoever_waits_to_claim() -> None:
    streams = Slots(8)
    first = await streams.for_claim()
    parts = [await streams.for_part() for _ in range(7)]
    claiming = asyncio.create_task(streams.for_claim())
    more = asyncio.create_task(streams.for_part())
    assert not await taken(claiming)
    parts.pop().release()
    assert await taken(claiming)
    assert not await taken(more)
    first.release()
    assert await taken(more), "with nobody left to claim, parts take all"


async def test_a_slot_that_waits_for_a_file_is_held_but_not_busy() -> None:
    streams = Slots(4)
    slots = [await streams.for_claim(), *streams.free_for_claims(2)]
    assert (streams.in_use, streams.busy) == (3, 0)
    slots[0].begin()
    await streams.for_part()
    assert (streams.in_use, streams.busy) == (4, 2)
    for slot in slots:
        slot.release()
    assert (streams.in_use, streams.busy) == (1, 1)


async def test_a_slot_is_given_back_once_and_a_cancelled_wait_loses_none() -> None:
    streams = Slots(1)
    slot = await streams.for_claim()
    waiting = asyncio.create_task(streams.for_part())
    await asyncio.sleep(0)
    slot.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    slot.release()
    assert streams.in_use == 0


async def test_who_backs_off_holds_no_slot() -> None:
    streams = Slots(1)
    slot = await streams.for_claim()
    resting = asyncio.create_task(slot.rest(0.01))
    other = await asyncio.wait_for(streams.for_claim(), 1)
    assert not resting.done()
    other.release()
    await asyncio.wait_for(resting, 1)
    assert streams.in_use == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.lists(st.sampled_from(["claim", "part", "release", "cancel"]), max_size=60))
def test_slots_are_never_lost_nor_made(total: int, steps: list[str]) -> None:
    async def play() -> None:
        streams = Slots(total)
        waiting: list[asyncio.Task[Slot]] = []
        for step in steps:
            if step in {"claim", "part"}:
                take = streams.for_claim if step == "claim" else streams.for_part
                waiting.append(asyncio.create_task(take()))
            elif waiting:
                task = waiting.pop(0)
                task.cancel()
                found = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(found, Slot):
                    found.release()
            await asyncio.sleep(0)
            held = sum(task.done() for task in waiting)
            assert 0 <= streams.in_use <= total
            assert held <= streams.in_use
            assert 0 <= streams.busy <= streams.in_use
        for task in waiting:
            task.cancel()
        for found in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(found, Slot):
                found.release()
        assert streams.in_use == 0

    asyncio.run(play())
