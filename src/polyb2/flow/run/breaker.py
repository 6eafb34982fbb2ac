"""The circuit breaker before every claim: open while a whole side is in trouble, so that nothing is charged to files.

Closed: claims pass. Open: nothing is claimed; the side is probed at growing intervals. Half-open: the probe was answered, and
one file finds out if bytes move again, as a listing shows neither a cap nor a refused write. A completed file
closes it, a further report of trouble opens it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from enum import Enum
from typing import Protocol

from polyb2.core.errors import AccountStoppedError, Kind, RemoteError, Scope, Side
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.retry import TIMING, Timing
from polyb2.core.units import format_duration
from polyb2.flow.run.diagnosis import Probed
from polyb2.waits import is_set_within, loop_s

log = logging.getLogger(__name__)


class BreakerState(Enum):
    """The state of the breaker; see the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Sides(Protocol):
    """The breaker's view of the sides; see :class:`~polyb2.flow.run.diagnosis.Diagnosis`."""

    proofs: int

    def proved(self, key: str) -> None: ...

    async def probe(self, side: Side, near: str) -> Probed: ...


class CircuitBreaker:
    """The circuit breaker of both sides together: a file needs both.

    Attributes:
        state: its state; see the module.
        error: the trouble of a side; None if the breaker is closed, and only then.
    """

    def __init__(self, sides: Sides, timing: Timing = TIMING, *, give_up_s: float, for_ever: bool) -> None:
        """Begin closed.

        Args:
            sides: the sides, which it probes.
            timing: the intervals of the probes.
            give_up_s: the longest trouble of a side that is waited out.
            for_ever: wait without limit.
        """
        self.state = BreakerState.CLOSED
        self.error: RemoteError | None = None
        self._sides = sides
        self._timing = timing
        self._give_up_s = give_up_s
        self._for_ever = for_ever
        self._probe_s = timing.probe_first_s
        self._since_s = 0.0
        self._well_s = math.inf
        self._near = ""
        self._changed = asyncio.Event()
        """Set to end the wait for the next probe: the breaker closed, or waiting is useless."""
        self._beside = 0
        """Files at work beside the trial: they may take long, and the trial does not wait for them."""

    def proved(self, key: str, began_s: float) -> None:
        """Close: all bytes of a file arrived, in an attempt that began then (by the loop's clock)."""
        self._sides.proved(key)
        if self.error is None or began_s < self._since_s:
            # Its requests may have been answered before the trouble began.
            return
        extra = log_fields(LogEvent.SIDE_RESUMED, side=self.error.side, seconds=loop_s() - self._since_s)
        log.info("the %s answers again; continuing", self.error.side, extra=extra)
        self.state, self.error, self._probe_s = BreakerState.CLOSED, None, self._timing.probe_first_s
        self._changed.set()

    def report(self, error: RemoteError, key: str, proofs: int) -> None:
        """Open, unless a file was completed since the error.

        Args:
            error: the side's trouble.
            key: the file that met it.
            proofs: files that had been completed by then.
        """
        if proofs != self._sides.proofs and not _needs_a_person(error):
            return
        match self.state:
            case BreakerState.CLOSED:
                self._since_s = loop_s()
                self._log_pause(error)
            case BreakerState.HALF_OPEN:
                self._probe_more_slowly()
            case BreakerState.OPEN if self.error is not None and _needs_a_person(self.error):
                # Another file's trouble, met at the same time, does not cure it.
                return
            case BreakerState.OPEN:
                pass
        self._open(error, key)

    def explains(self, began_s: float) -> RemoteError | None:
        """The trouble that an attempt which began then may have met; None if a probe had already shown its end."""
        return self.error if began_s < self._well_s else None

    async def admission(self, in_flight: int) -> bool:
        """Wait until a claim may be tried; False while another attempt is the trial of a half-open breaker.

        Args:
            in_flight: files at work.

        Raises:
            AccountStoppedError: it lasted longer than ``POLYB2_GIVE_UP``, or no attempt can succeed until a person acts.
        """
        if self.state is BreakerState.HALF_OPEN:
            self._beside = min(self._beside, in_flight)
            return in_flight <= self._beside
        while self.state is BreakerState.OPEN and self.error is not None:
            self._check_limit(self.error)
            self._changed.clear()
            if not await is_set_within(self._changed, min(self._probe_s, self._left_s(self.error))):
                await self._try_half_open(self.error, in_flight)
        return True

    async def _try_half_open(self, error: RemoteError, in_flight: int) -> None:
        probed = await self._sides.probe(error.side, self._near)
        if self.error is not error:
            # The breaker closed meanwhile, or there is another trouble to probe.
            return
        if probed.proven:
            self._well_s = loop_s()
        problem = probed.problem
        if problem is None or problem.kind.contradicts:
            self.state, self._beside = BreakerState.HALF_OPEN, in_flight
            return
        self._probe_more_slowly()
        if _needs_a_person(problem):
            self._open(problem, self._near)

    def _open(self, error: RemoteError, near: str) -> None:
        self.state, self.error, self._near, self._well_s = BreakerState.OPEN, error, near, math.inf
        if _needs_a_person(error) and not self._for_ever:
            self._changed.set()

    def _probe_more_slowly(self) -> None:
        self._probe_s = min(self._probe_s * 2, self._timing.probe_limit_s)

    def _log_pause(self, error: RemoteError) -> None:
        if not self._for_ever and error.handling.scope is not Scope.OUTAGE:
            return
        limit_s = self._limit_s(error)
        limit = "" if limit_s is None else f"; giving up after {format_duration(limit_s)}"
        extra = log_fields(LogEvent.SIDE_PAUSED, side=error.side, reason=error.kind, give_up_seconds=limit_s)
        log.error("paused: %s%s", error, limit, extra=extra)

    def _check_limit(self, error: RemoteError) -> None:
        if _needs_a_person(error) and not self._for_ever:
            raise AccountStoppedError(str(error))
        if self._left_s(error) <= 0:
            limit = format_duration(self._limit_s(error) or 0.0)
            raise AccountStoppedError(f"gave up after {limit}: {error}; the next run continues from here")

    def _limit_s(self, error: RemoteError) -> float | None:
        """The longest trouble of the side that is waited out; None for no limit."""
        if self._for_ever:
            return None
        has_moved = error.by_intermediary and error.kind is Kind.MISCONFIGURED
        return min(self._give_up_s, self._timing.moved_limit_s) if has_moved else self._give_up_s

    def _left_s(self, error: RemoteError) -> float:
        limit_s = self._limit_s(error)
        return self._timing.probe_limit_s if limit_s is None else self._since_s + limit_s - loop_s()


def _needs_a_person(error: RemoteError) -> bool:
    return error.handling.scope is Scope.ACCOUNT
