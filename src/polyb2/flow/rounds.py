"""The rounds of a watch that one worker of the ledger at a time makes for all: none of them leads, each takes its turn.

A worker looks now and then, with jitter, whether a round is due or the one that makes it is gone. It makes a round under its
own lease: without that no request begins and no page is written, and the end of the round is refused, so that a process that
stood still meanwhile decides nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol

from polyb2.core.errors import LeaseLostError
from polyb2.flow.run.lease import Lease
from polyb2.ledger.rows import Round, RoundClaim, Worker
from polyb2.remote.guard import Fence

RUSH_S = 1.0
"""A round that is due is first left to the worker that made the last one, for as long at most."""


class RoundLedger(Protocol):
    """The operations of the ledger that rounds need."""

    async def round(self, worker: Worker, name: str, every_ms: int, day: str | None = None) -> Round: ...

    async def take_round(
        self, worker: Worker, name: str, every_ms: int, day: str | None = None
    ) -> RoundClaim | None: ...

    async def end_round(self, claim: RoundClaim, pause_ms: int, problem: str | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at a round.

    Attributes:
        round: as it was before a turn was taken.
        claim: the right to make it now; None where it is not due, or another's.
        pause_s: until the next look.
    """

    round: Round
    claim: RoundClaim | None
    pause_s: float


class Rounds:
    """The rounds, as one process sees them."""

    def __init__(
        self, ledger: RoundLedger, lease: Lease, poll_s: float, fraction: Callable[[], float] = random.random
    ) -> None:
        """``poll_s`` is the mean pause between two looks; ``fraction`` makes the jitter, a number from 0 to 1."""
        self._ledger = ledger
        self._lease = lease
        self._poll_s = poll_s
        self._fraction = fraction

    async def look(self, name: str, every_s: float, day: str | None = None) -> Look:
        """Look at a round, and take it if it is due; waits for a lease where there is none.

        Args:
            name: of the round, see :func:`round_name`.
            every_s: it is due so long after the last one, or sooner if that one's end said so.
            day: the day that it is made for, if once a day is enough and once is wanted.

        Raises:
            LeaseLostError: the lease was lost meanwhile; the next look waits for another.
        """
        worker, every_ms, claim = await self._lease.held(), int(every_s * 1000), None
        found = await self._ledger.round(worker, name, every_ms, day)
        if found.wait_ms == 0:
            try:
                claim = await self._ledger.take_round(worker, name, every_ms, day)
            except LeaseLostError:
                self._lease.lose(worker)
                raise
        return Look(found, claim, self._pause_s(found))

    def _pause_s(self, found: Round) -> float:
        poll_s = self._poll_s * (0.5 + self._fraction())
        if not found.wait_ms:
            return poll_s
        rush_s = 0.0 if found.is_ours else min(RUSH_S, self._poll_s) * self._fraction()
        return min(poll_s, found.wait_ms / 1000 + rush_s)

    def fence(self, claim: RoundClaim) -> Fence:
        """The fence of everything that is done for the round."""
        return partial(self._lease.check, claim.worker.row)

    async def end(self, claim: RoundClaim, pause_s: float, problem: str | None = None) -> None:
        """Note that the round is made, and is due again in ``pause_s``.

        Raises:
            LeaseLostError: it is another's by now, or may be.
        """
        await self._ledger.end_round(claim, int(pause_s * 1000), problem)

    async def repeat(self, name: str, work: Callable[[], Awaitable[None]], every_s: float) -> NoReturn:
        """Make a round whenever it is this worker's turn."""
        while True:
            try:
                look = await self.look(name, every_s)
                if look.claim is not None:
                    await work()
                    await self.end(look.claim, every_s)
                    continue
            except LeaseLostError:
                continue
            await asyncio.sleep(look.pause_s)


def round_name(what: str, *scope: str) -> str:
    """The name of a round: workers with the same scope share it. A scope may be of any length."""
    return f"{what} {hashlib.sha256(chr(10).join(scope).encode()).hexdigest()[:16]}"
