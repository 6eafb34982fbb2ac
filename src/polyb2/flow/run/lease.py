"""The lease of this process on the rows it has claimed: taken, renewed, lost, given back.

Invariants: a lost lease stays lost, even if the ledger would still renew it: a claim that met the loss was dropped
unsettled, and a renewed lease would keep its row from every other worker. The holder counts from the moment it asked, by its
own monotonic clock, and ends earlier than the ledger does by a margin, so that no two clocks are ever compared. The share of
the account's limits ends with the lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NoReturn, Protocol

from polyb2 import __version__
from polyb2.core.errors import LeaseLostError, LedgerError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.ledger.rows import WHOLE, Load, Share, Worker

log = logging.getLogger(__name__)
RENEWALS_A_LEASE = 4
RENEWALS_SHORT = 20
"""As often a lease it is renewed while others still hold what is to be this worker's share."""
MARGIN_S = 1.0
MARGIN_OF_LEASE = 0.1
"""The holder stops earlier by a second, and by a tenth of a lease of less than ten."""
NONE = Share(0, 0)


class Leases(Protocol):
    """The lease operations of the ledger."""

    @property
    def losses(self) -> int: ...

    async def register(self, worker_id: str, lease_ms: int, host: str, version: str) -> Worker: ...

    async def renew(self, worker: Worker, load: Load, used: int) -> Share: ...

    async def end_worker(self, worker: Worker, reason: str) -> None: ...


class LeaseState(Enum):
    """``NONE`` before it is taken and after it is given back."""

    NONE = "none"
    HELD = "held"
    LOST = "lost"


class Lease:
    """The lease of one worker of the ledger at a time; a new worker after each loss."""

    def __init__(
        self,
        ledger: Leases,
        worker_id: str,
        lease_s: float,
        now_s: Callable[[], float] = time.monotonic,
        *,
        host: str = "",
        is_limited: bool = False,
        use_share: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Take the collaborators; nothing of the account's limits may be used before the lease is taken.

        Args:
            ledger: registers and renews.
            worker_id: the name of the worker.
            lease_s: the length of the lease.
            now_s: reads a monotonic clock.
            host: the name of this host.
            is_limited: limits of the account are set, so that nothing is asked without a share of them.
            use_share: called with the share of the account's limits that may be used from now on, 0 to 1.
        """
        self._ledger = ledger
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._now_s = now_s
        self._host = host
        self._is_limited = is_limited
        self._use_share = use_share
        self._worker: Worker | None = None
        self._until_s = 0.0
        self._losses = 0
        self._state = LeaseState.NONE
        self._taken = asyncio.Event()
        self._share = NONE
        self._fair = 0
        self._pause_s = 0.0
        self._end: asyncio.TimerHandle | None = None
        use_share(0.0)

    @property
    def state(self) -> LeaseState:
        """The state now; a lease that ran out, or that the ledger may have lost, is lost from then on."""
        ran_out = self._now_s() >= self._until_s or self._ledger.losses != self._losses
        if self._state is LeaseState.HELD and ran_out:
            self._state = LeaseState.LOST
        return self._state

    @property
    def worker(self) -> Worker | None:
        """The worker to claim as; None without a lease."""
        return self._worker if self.state is LeaseState.HELD else None

    async def take(self) -> None:
        """Register a new worker. The lease counts from before the ledger was asked."""
        asked_s = self._now_s()
        lease_ms = int(self._lease_s * 1000)
        self._worker = await self._ledger.register(self._worker_id, lease_ms, self._host, __version__)
        self._losses = self._ledger.losses
        self._state = LeaseState.HELD
        self._hold(asked_s, self._worker.share)
        if self._is_limited and not self._share.granted:
            words = (
                "waiting for a share of the limits: other workers hold all of it (a killed one until its lease ends)"
            )
            log.info(words, extra=log_fields(LogEvent.LIMITS_AWAITED))
        self._taken.set()

    async def held(self) -> Worker:
        """The worker to act as, once it has a lease."""
        while (worker := self.worker) is None:
            self._taken.clear()
            await self._taken.wait()
        return worker

    def _hold(self, asked_s: float, share: Share) -> None:
        """Use a share until a lease that was asked for at ``asked_s`` ends, or is renewed."""
        self._until_s = asked_s + self._lease_s - min(MARGIN_S, MARGIN_OF_LEASE * self._lease_s)
        if share.granted < self._share.granted:
            # The others get what was given up once the ledger knows that it is not used any more.
            self._pause_s = 0.0
        else:
            self._pause_s = self._lease_s / (RENEWALS_A_LEASE if share.granted >= share.fair else RENEWALS_SHORT)
        self._fair = share.fair
        self._use(share)
        self._end = asyncio.get_running_loop().call_later(self._until_s - self._now_s(), self._use, NONE)

    def _use(self, share: Share) -> None:
        if self._end is not None:
            self._end.cancel()
        self._share = share
        self._use_share(share.granted / WHOLE)

    def check(self, worker: int) -> None:
        """Fence of every request of the claims of a worker, given by its row in the ledger.

        Raises:
            LeaseLostError: that worker has no lease, whatever lease was taken since.
        """
        if self.worker is None or self.worker.row != worker:
            raise LeaseLostError(f"the lease of worker {self._worker_id} ran out")

    def lose(self, worker: Worker) -> None:
        """Note that the ledger refused this worker; a lease taken since then is unaffected."""
        if self.worker == worker:
            self._state = LeaseState.LOST
            self._use(NONE)

    async def keep(self, load: Callable[[], Load], on_lost: Callable[[], Awaitable[None]]) -> NoReturn:
        """Renew the lease until cancelled; after a loss call ``on_lost``, which ends the transfers, and take a new lease."""
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self._renew(load())
            except LeaseLostError as error:
                words = "%s: stopping its transfers and taking a new one"
                log.warning(words, error, extra=log_fields(LogEvent.LEASE_LOST))
                self._worker, self._state = None, LeaseState.NONE
                self._use(NONE)
                await on_lost()
                await self.take()

    async def _renew(self, load: Load) -> None:
        assert self._worker is not None  # noqa: S101 - taken before it is kept
        self.check(self._worker.row)
        asked_s = self._now_s()
        share = await self._ledger.renew(self._worker, load, self._share.granted)
        # A claim may have met the loss while the renewal was in progress.
        if self._state is LeaseState.LOST:
            self.check(self._worker.row)
        self._hold(asked_s, share)

    async def give_back(self) -> None:
        """Return all rows of the worker to the queue, uncharged. What the process still does takes a fair share."""
        worker, self._worker, self._state = self._worker, None, LeaseState.NONE
        self._use(Share(self._fair, self._fair))
        if worker is None:
            return
        try:
            await self._ledger.end_worker(worker, "interrupted")
        except LedgerError as error:
            # The reason why the pool ends matters more than this: the rows are free when the lease runs out.
            log.warning("the claimed files are released in %.0f s: %s", self._lease_s, error)
