"""The lease of this process on the rows it has claimed: taken, renewed, lost, given back.

Invariant: a lost lease stays lost, even if the ledger would still renew it: a claim that met the loss was dropped
unsettled, and a renewed lease would keep its row from every other worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NoReturn, Protocol

from polyb2.core.errors import LeaseLostError, LedgerError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.ledger.rows import Load, Worker

log = logging.getLogger(__name__)
RENEWALS_A_LEASE = 4


class Leases(Protocol):
    """The lease operations of the ledger."""

    async def register(self, worker_id: str, lease_ms: int) -> Worker: ...

    async def renew(self, worker: Worker, load: Load) -> None: ...

    async def end_worker(self, worker: Worker, reason: str) -> None: ...


class LeaseState(Enum):
    """``NONE`` before it is taken and after it is given back."""

    NONE = "none"
    HELD = "held"
    LOST = "lost"


class Lease:
    """The lease of one worker of the ledger at a time; a new worker after each loss."""

    def __init__(
        self, ledger: Leases, worker_id: str, lease_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """``now_s`` reads a monotonic clock."""
        self._ledger = ledger
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._now_s = now_s
        self._worker: Worker | None = None
        self._until_s = 0.0
        self._state = LeaseState.NONE
        self._taken = asyncio.Event()

    @property
    def state(self) -> LeaseState:
        """The state now; a lease that ran out is lost from then on."""
        if self._state is LeaseState.HELD and self._now_s() >= self._until_s:
            self._state = LeaseState.LOST
        return self._state

    @property
    def worker(self) -> Worker | None:
        """The worker to claim as; None without a lease."""
        return self._worker if self.state is LeaseState.HELD else None

    async def take(self) -> None:
        """Register a new worker. The lease counts from before the ledger was asked."""
        began_s = self._now_s()
        self._worker = await self._ledger.register(self._worker_id, int(self._lease_s * 1000))
        self._until_s, self._state = began_s + self._lease_s, LeaseState.HELD
        self._taken.set()

    async def held(self) -> Worker:
        """The worker to act as, once it has a lease."""
        while (worker := self.worker) is None:
            self._taken.clear()
            await self._taken.wait()
        return worker

    def check(self, worker: int) -> None:
        """Fence of every request of the claims of a worker, given by its row in the ledger.

        Raises:
            LeaseLostError: that worker has no lease, whatever lease was taken since.
        """
        if self.worker is None or self.worker.row != worker:
            raise LeaseLostError(f"the lease of worker {self._worker_id} ran out")

    def lose(self, worker: Worker) -> None:
        """Note that the ledger refused this worker; a lease that was taken since is not concerned."""
        if self.worker == worker:
            self._state = LeaseState.LOST

    async def keep(self, load: Callable[[], Load], on_lost: Callable[[], Awaitable[None]]) -> NoReturn:
        """Renew the lease until cancelled; after a loss call ``on_lost``, which ends the transfers, and take a new lease."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)
            try:
                await self._renew(load())
            except LeaseLostError as error:
                words = "%s: stopping its transfers and taking a new one"
                log.warning(words, error, extra=log_fields(LogEvent.LEASE_LOST))
                self._worker, self._state = None, LeaseState.NONE
                await on_lost()
                await self.take()

    async def _renew(self, load: Load) -> None:
        assert self._worker is not None  # noqa: S101 - taken before it is kept
        self.check(self._worker.row)
        began_s = self._now_s()
        await self._ledger.renew(self._worker, load)
        # A claim may have met the loss while the renewal was in progress.
        if self._state is LeaseState.LOST:
            self.check(self._worker.row)
        self._until_s = began_s + self._lease_s

    async def give_back(self) -> None:
        """Return all rows of the worker to the queue, uncharged."""
        worker, self._worker, self._state = self._worker, None, LeaseState.NONE
        if worker is None:
            return
        try:
            await self._ledger.end_worker(worker, "interrupted")
        except LedgerError as error:
            # The reason why the pool ends matters more than this: the rows are free when the lease runs out.
            log.warning("the claimed files are released in %.0f s: %s", self._lease_s, error)
