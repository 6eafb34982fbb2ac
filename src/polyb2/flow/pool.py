"""The bounded pool: slot before claim, one task a claimed file, a lease that is renewed, and an orderly end.

Invariants: no more files in flight than twice the streams (a file that backs off holds no stream); a worker without its
lease starts nothing and settles nothing; whatever ends the pool, its rows go back to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from polyb2.core.errors import LeaseLostError, LedgerError
from polyb2.core.logevents import LogEvent, told
from polyb2.core.records import Claim
from polyb2.core.status import FAILED, Event
from polyb2.flow.mirror import Mirror
from polyb2.flow.outage import Outage
from polyb2.flow.streams import Slot
from polyb2.flow.work import RetryRules, work
from polyb2.ledger.rows import Worker
from polyb2.meters import Meters
from polyb2.remote.guards import fenced_by

log = logging.getLogger(__name__)
POLL_S = 1.0
RENEWALS_A_LEASE = 4


@dataclass(slots=True)
class Outcome:
    """What the pool did.

    Attributes:
        claimed: claims made.
        completed: files that were completed.
        unfinished: files that this process attempted and left failed or parked, by key.
        meters: what the process counted.
    """

    claimed: int = 0
    completed: int = 0
    unfinished: dict[str, Event] = field(default_factory=dict)
    meters: Meters = field(default_factory=Meters)

    @property
    def bytes(self) -> int:
        """Bytes made durable."""
        return self.meters.stored_bytes.total()


@dataclass(frozen=True, slots=True)
class PoolRules:
    """How the pool ends and leases; seconds."""

    worker_id: str
    lease_s: float
    drain_s: float
    limit: int | None
    retry: RetryRules


class Pool:
    """Claims files and works on them until there is nothing left to wait for."""

    def __init__(self, mirror: Mirror, outage: Outage, rules: PoolRules, more_to_come: Callable[[], bool]) -> None:
        self.outcome = Outcome(meters=mirror.meters)
        self.wake = asyncio.Event()
        self._mirror = mirror
        self._outage = outage
        self._rules = rules
        self._more_to_come = more_to_come
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker: Worker | None = None
        self._lease_until_s = 0.0
        self._has_lost_lease = False
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()

    async def run(self) -> Outcome:
        """Work until the queue is drained, the limit is reached, or the process is asked to stop.

        Raises:
            AccountStoppedError: nothing can succeed any more.
        """
        await self._register()
        heartbeat = asyncio.create_task(self._heartbeat(), name="heartbeat")
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
            await self._end()
        if self._failure is not None:
            raise self._failure
        await self._forget_what_others_finished()
        return self.outcome

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while not self._limit_reached():
            if len(self._tasks) >= 2 * self._mirror.streams.total or not await self._outage.admission(len(self._tasks)):
                await self._wait()
                continue
            slots = [await self._mirror.streams.for_claim()]
            claims: list[Claim] = []
            try:
                slots += self._mirror.streams.free_for_claims(self._room() - 1)
                claims = await self._claim(len(slots))
            finally:
                for slot in slots[len(claims) :]:
                    slot.release()
            for claim, slot in zip(claims, slots, strict=False):
                self._start(claim, slot)
            if not claims and not self._outage.is_closed:
                if await self._is_finished():
                    return
                await self._wait()

    def _room(self) -> int:
        """How many files may be claimed at once: one while an outage is being tried out, and never above the limit."""
        if self._outage.error is not None:
            return 1
        room = 2 * self._mirror.streams.total - len(self._tasks)
        return room if self._rules.limit is None else min(room, self._rules.limit - self.outcome.claimed)

    async def _claim(self, count: int) -> list[Claim]:
        if self._worker is None or self._outage.is_closed:
            return []
        try:
            return await self._mirror.ledger.claim_up_to(self._worker, count)
        except LeaseLostError:
            # The heartbeat notices as well, and begins with a new lease.
            self._has_lost_lease = True
            return []

    def _start(self, claim: Claim, slot: Slot) -> None:
        self.outcome.claimed += 1
        slot.begin()
        task = asyncio.create_task(self._work(claim, slot), name=f"file {claim.key}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, slot))

    def _ended(self, slot: Slot, task: asyncio.Task[None]) -> None:
        # It has done so itself, unless it was cancelled before its first step.
        slot.release()
        self._tasks.discard(task)
        self.wake.set()
        self._note_failure(task)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        """One task that dies takes the pool with it; the first to die says why."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._failed.set()

    async def _work(self, claim: Claim, slot: Slot) -> None:
        with fenced_by(self._check_lease):
            event = await work(self._mirror, claim, slot, self._outage, self._rules.retry)
        self._mirror.meters.ended(claim.dataset, event)
        if event in {Event.COMPLETE, Event.REVISE, Event.RELEASE, None}:
            self.outcome.unfinished.pop(claim.key, None)
            self.outcome.completed += event is Event.COMPLETE
        else:
            self.outcome.unfinished[claim.key] = event

    def _limit_reached(self) -> bool:
        return self._rules.limit is not None and self.outcome.claimed >= self._rules.limit

    async def _is_finished(self) -> bool:
        """Whether nothing is pending, waiting for a retry, in our hands or in another runner's."""
        worker = self._worker
        if self._more_to_come() or self._tasks or worker is None:
            return False
        is_empty = (await self._mirror.ledger.queue_state(worker)).is_empty
        # Without the lease a row that still names this worker is in nobody's hands: it waits for the next lease.
        return is_empty and worker is self._worker and not self._lease_is_over()

    async def _wait(self) -> None:
        """Until a task ends or something is queued; a second at most, for what other processes do."""
        self.wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self.wake.wait()

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        began_s = time.monotonic()
        self._worker = await self._mirror.ledger.register(self._rules.worker_id, int(self._rules.lease_s * 1000))
        self._lease_until_s = began_s + self._rules.lease_s
        self._has_lost_lease = False

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._rules.lease_s / RENEWALS_A_LEASE)
            if self._worker is None:
                continue
            try:
                self._check_lease()
                began_s = time.monotonic()
                await self._mirror.ledger.renew(self._worker, self._mirror.load)
                if self._has_lost_lease:
                    # Somebody was told so while the renewal was under way.
                    self._check_lease()
                self._lease_until_s = began_s + self._rules.lease_s
            except LeaseLostError as error:
                self._mirror.meters.leases_lost += 1
                words = "%s: stopping its transfers and beginning with a new one"
                log.warning(words, error, extra=told(LogEvent.LEASE_LOST))
                self._worker = None
                await _cancel(self._tasks)
                await self._register()

    def _lease_is_over(self) -> bool:
        return self._has_lost_lease or time.monotonic() >= self._lease_until_s

    def _check_lease(self) -> None:
        """Raise once the lease ran out; from then on it is lost, even if the ledger would still renew it.

        Who was told so has dropped its claim unsettled, and a renewed lease would keep that row from everybody.
        """
        if self._lease_is_over():
            self._has_lost_lease = True
            raise LeaseLostError(f"the lease of worker {self._rules.worker_id} ran out")

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _let_tasks_end(self) -> None:
        """Wait for the files in flight: to their end, or for the drain's patience once the process is to stop."""
        deadline_s: float | None = None
        while self._tasks and not self._failed.is_set():
            if deadline_s is None and self._mirror.draining.is_set():
                deadline_s = time.monotonic() + self._rules.drain_s
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return
            await self._wait()

    async def _forget_what_others_finished(self) -> None:
        """What this process left failed another runner, or a person, may have dealt with since."""
        rows = await self._mirror.ledger.known_files(list(self.outcome.unfinished))
        for key in list(self.outcome.unfinished):
            if key not in rows or rows[key].status not in FAILED:
                del self.outcome.unfinished[key]

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            await self._mirror.ledger.end_worker(worker, "interrupted")
        except LedgerError as error:
            # Whatever ends the pool is told, not this: the rows are free when the lease runs out.
            log.warning("the files in hand come free in %.0f s: %s", self._rules.lease_s, error)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
