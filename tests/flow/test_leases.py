"""A process that loses its lease while it lives goes on with a new one, and leaves no row behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from polyb2.core.records import Claim
from polyb2.flow.run import pool
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.attempt import Attempt
from polyb2.sandbox import Call, Fault, GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, key

LARGE = key("2024-01-02", QUOTES)
LEASE_S = 1.5


@pytest.mark.parametrize("operation", ["create", "complete"])
async def test_a_run_that_stood_still_past_its_lease_sends_the_file_in_a_new_attempt(
    bench: Bench, operation: str
) -> None:
    async def stand_still() -> None:
        time.sleep(1.2 * LEASE_S)  # noqa: ASYNC251 - as a process that is stopped: nothing of it runs

    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    bench.box.target.inject(Fault(operation, Call(stand_still)))
    result = await bench.run(polyb2_lease_seconds=LEASE_S)
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {})
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"]) == ("completed", 0)
    assert row["attempt"] > 1
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_a_file_that_is_cancelled_before_it_begins_gives_its_slot_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled before its first step runs none of its code, not even a finally block."""
    start = pool.Pool._start

    def lost_at_once(self: pool.Pool, claim: Claim, slot: Slot) -> None:
        start(self, claim, slot)
        if self.outcome.claimed == 1:
            assert self._lease.worker is not None
            self._lease.lose(self._lease.worker)
            for task in self._tasks:
                task.cancel()

    monkeypatch.setattr(pool.Pool, "_start", lost_at_once)
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    result = await asyncio.wait_for(bench.run(polyb2_lease_seconds=LEASE_S, polyb2_concurrency=1), 20)
    assert (result.outcome.claimed, result.outcome.completed) == (2, 1)
    bench.assert_mirrored(LARGE)


async def test_a_part_that_is_cancelled_before_it_begins_gives_its_slot_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = asyncio.TaskGroup.create_task

    def cancelled_at_once(self: asyncio.TaskGroup, coroutine: Any, **named: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = create(self, coroutine, **named)
        if task.get_name().startswith("part of"):
            task.cancel()
            file.cancel()
        return task

    monkeypatch.setattr(asyncio.TaskGroup, "create_task", cancelled_at_once)
    bench.box.source.put(LARGE, GeneratedGzip(21 * MIB))
    await bench.discover()
    async with bench.open(polyb2_concurrency=4) as mirror:
        worker = await mirror.ledger.register("worker", 60_000)
        (claim,) = await mirror.ledger.claim_up_to(worker, 1)
        slot = await mirror.slots.for_claim()
        file = asyncio.create_task(Attempt(mirror, claim, slot).transfer())
        await asyncio.wait([file])
        assert file.cancelled()
        slot.release()
        assert mirror.slots.in_use == 0
