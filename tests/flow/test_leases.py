"""A process that loses its lease while it lives goes on with a new one, and leaves no row behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from polyb2.core.records import Claim
from polyb2.flow.run import lease, pool
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.attempt import Attempt
from polyb2.opening import open_mirror
from polyb2.sandbox import Delay, Fault, GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, key

LARGE = key("2024-01-02", QUOTES)
LEASE_S = 1.0


@pytest.mark.parametrize("operation", ["create", "complete"])
async def test_a_run_that_lost_its_lease_does_not_take_the_queue_for_empty(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The claim was dropped unsettled; a run that ended before its heartbeat came left the file in processing."""
    monkeypatch.setattr(lease, "RENEWALS_A_LEASE", 0.5)  # as if the loop had been blocked past the lease
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    bench.box.target.inject(Fault(operation, Delay(1.2 * LEASE_S)))
    result = await bench.run(polyb2_lease_seconds=LEASE_S)
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {})
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["attempt"]) == ("completed", 0, 2)
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_a_file_that_is_cancelled_before_it_begins_gives_its_slot_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled before its first step runs nothing of its own, not even what is to happen in any case."""
    start = pool.Pool._start

    def lost_at_once(self: pool.Pool, claim: Claim, slot: Slot) -> None:
        start(self, claim, slot)
        if self.outcome.claimed == 1:
            self._lease.lose()
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
    async with open_mirror(bench.configured(polyb2_concurrency=4)) as mirror:
        worker = await mirror.ledger.register("worker", 60_000)
        (claim,) = await mirror.ledger.claim_up_to(worker, 1)
        slot = await mirror.slots.for_claim()
        file = asyncio.create_task(Attempt(mirror, claim, slot).transfer())
        await asyncio.wait([file])
        assert file.cancelled()
        slot.release()
        assert mirror.slots.in_use == 0
