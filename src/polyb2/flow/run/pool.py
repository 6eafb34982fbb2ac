"""The bounded pool: slot before claim, one task a claimed file, a lease that is renewed, and an orderly end.

Invariants: no more files in flight than twice the slots (a file that backs off holds none); a worker without its lease
starts nothing and settles nothing; whatever ends the pool, its rows go back to the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from polyb2.core.errors import LeaseLostError
from polyb2.core.records import Claim
from polyb2.core.status import FAILED, Event
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import BreakerState, CircuitBreaker
from polyb2.flow.run.lease import Lease
from polyb2.flow.run.settle import Settlement
from polyb2.flow.run.slots import Slot
from polyb2.meters import Meters
from polyb2.waits import is_set_within, loop_s

FILES_PER_SLOT = 2
"""Files in flight for each slot: a file that backs off or publishes holds no slot, and another uses it meanwhile."""


@dataclass(slots=True)
class Outcome:
    """The result of the pool.

    Attributes:
        claimed: claims made.
        completed: files that were completed.
        unfinished: files that this process attempted and left failed or parked, by key.
        meters: the counters of the process.
    """

    claimed: int = 0
    completed: int = 0
    unfinished: dict[str, Event] = field(default_factory=dict)
    meters: Meters = field(default_factory=Meters)

    @property
    def bytes(self) -> int:
        """Bytes made durable."""
        return self.meters.stored_bytes.total()


class Pool:
    """Claims files and works on them until there is nothing left to wait for."""

    def __init__(
        self,
        mirror: Mirror,
        lease: Lease,
        breaker: CircuitBreaker,
        settlement: Settlement,
        more_to_come: Callable[[], bool],
        *,
        drain_s: float,
        limit: int | None = None,
    ) -> None:
        """Take the collaborators.

        Args:
            mirror: the shared state of all transfers.
            lease: the right to claim.
            breaker: consulted before every claim.
            settlement: works on each claim.
            more_to_come: a discovery may still queue something.
            drain_s: seconds that files in flight get once the process is asked to stop.
            limit: claims after which to end.
        """
        self.outcome = Outcome(meters=mirror.meters)
        self.wake = asyncio.Event()
        self._mirror = mirror
        self._lease = lease
        self._breaker = breaker
        self._settlement = settlement
        self._more_to_come = more_to_come
        self._drain_s = drain_s
        self._limit = limit
        self._files_max = FILES_PER_SLOT * mirror.slots.total
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()

    async def run(self) -> Outcome:
        """Work until the queue is drained, the limit is reached, or the process is asked to stop.

        Raises:
            AccountStoppedError: no attempt can succeed.
        """
        await self._lease.take()
        heartbeat = asyncio.create_task(
            self._lease.keep(lambda: self._mirror.load, self._on_lease_lost), name="heartbeat"
        )
        dispatch = asyncio.create_task(self._dispatch(), name="dispatch")
        for root in (heartbeat, dispatch):
            root.add_done_callback(self._note_failure)
        ends: set[asyncio.Task[Any]] = {
            asyncio.create_task(event.wait()) for event in (self._mirror.draining, self._failed)
        }
        try:
            await asyncio.wait({dispatch, *ends}, return_when=asyncio.FIRST_COMPLETED)
            dispatch.cancel()
            await self._let_tasks_end()
        finally:
            await _cancel({dispatch, *self._tasks})
            await _cancel({heartbeat, *ends})
            await self._lease.give_back()
        if self._failure is not None:
            raise self._failure
        await self._forget_what_others_finished()
        return self.outcome

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while self._limit is None or self.outcome.claimed < self._limit:
            if len(self._tasks) >= self._files_max or not await self._breaker.admission(len(self._tasks)):
                await self._wait()
                continue
            slots = [await self._mirror.slots.for_claim()]
            claims: list[Claim] = []
            try:
                slots += self._mirror.slots.free_for_claims(self._room() - 1)
                claims = await self._claim(len(slots))
            finally:
                for slot in slots[len(claims) :]:
                    slot.release()
            for claim, slot in zip(claims, slots, strict=False):
                self._start(claim, slot)
            if not claims and self._breaker.state is not BreakerState.OPEN:
                if await self._is_finished():
                    return
                await self._wait()

    def _room(self) -> int:
        """Files that may be claimed at once: one while the breaker is not closed, and never above the limit."""
        if self._breaker.state is not BreakerState.CLOSED:
            return 1
        room = self._files_max - len(self._tasks)
        return room if self._limit is None else min(room, self._limit - self.outcome.claimed)

    async def _claim(self, count: int) -> list[Claim]:
        worker = self._lease.worker
        if worker is None or self._breaker.state is BreakerState.OPEN:
            return []
        try:
            return await self._mirror.ledger.claim_up_to(worker, count)
        except LeaseLostError:
            # The heartbeat notices as well, and takes a new lease.
            self._lease.lose(worker)
            return []

    def _start(self, claim: Claim, slot: Slot) -> None:
        self.outcome.claimed += 1
        slot.begin()
        task = asyncio.create_task(self._work(claim, slot), name=f"file {claim.key}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, slot))

    def _ended(self, slot: Slot, task: asyncio.Task[None]) -> None:
        # The task does so itself, unless it was cancelled before its first step.
        slot.release()
        self._tasks.discard(task)
        self.wake.set()
        self._note_failure(task)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        """End the pool with the first task that dies, and keep its error as the reason."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._failed.set()

    async def _work(self, claim: Claim, slot: Slot) -> None:
        event = await self._settlement.work(claim, slot)
        self._mirror.meters.ended(claim.dataset, event)
        if event in {Event.COMPLETE, Event.REVISE, Event.RELEASE, None}:
            self.outcome.unfinished.pop(claim.key, None)
            self.outcome.completed += event is Event.COMPLETE
        else:
            self.outcome.unfinished[claim.key] = event

    async def _is_finished(self) -> bool:
        """Tell if nothing is pending, waiting for a retry, in our hands or in another runner's."""
        worker = self._lease.worker
        if self._more_to_come() or self._tasks or worker is None:
            return False
        is_empty = (await self._mirror.ledger.queue_state(worker)).is_empty
        # Without the lease a row that still names this worker is in progress nowhere: it waits for the next lease.
        return is_empty and worker is self._lease.worker

    async def _wait(self) -> None:
        """Wait until a task ends or something is queued; a short while at most, for changes by other processes."""
        self.wake.clear()
        await is_set_within(self.wake, self._mirror.timing.poll_s)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _let_tasks_end(self) -> None:
        """Wait for the files in flight: to their end, or for ``drain_s`` once the process is to stop."""
        deadline_s = None
        while self._tasks and not self._failed.is_set():
            if deadline_s is None and self._mirror.draining.is_set():
                deadline_s = loop_s() + self._drain_s
            if deadline_s is not None and loop_s() >= deadline_s:
                return
            await self._wait()

    async def _forget_what_others_finished(self) -> None:
        """Drop failures of this process that another runner, or a person, has dealt with since."""
        if not self.outcome.unfinished:
            return
        rows = await self._mirror.ledger.known_files(list(self.outcome.unfinished))
        for key in list(self.outcome.unfinished):
            if key not in rows or rows[key].status not in FAILED:
                del self.outcome.unfinished[key]

    async def _on_lease_lost(self) -> None:
        self._mirror.meters.leases_lost += 1
        await _cancel(self._tasks)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
