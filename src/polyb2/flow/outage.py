"""When not a file but a whole side is in trouble: pause, probe slowly, say it once, charge nobody.

A connection that was never established, a cap, and refused keys are such by their kind. A request that failed all its tries
is one only if the side answered nobody since and does not answer a plain listing either; else the fault is the file's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from polyb2.core.errors import AccountStoppedError, Kind, RemoteError, Scope, Side
from polyb2.core.logevents import LogEvent, told
from polyb2.core.units import format_duration

log = logging.getLogger(__name__)
PROBE_FIRST_S = 1.0
PROBE_LIMIT_S = 60.0
PROBE_PATIENCE_S = 15.0
PROBE_FRESH_S = 0.9
_MAY_BE_THE_SIDE = {Kind.CONNECTION_LOST, Kind.STALLED, Kind.SERVER_ERROR, Kind.THROTTLED, Kind.BAD_ANSWER}


class Outage:
    """The gate before every claim; closed while a side is away."""

    def __init__(
        self, probes: Mapping[Side, Callable[[], Awaitable[None]]], *, give_up_s: float, for_ever: bool
    ) -> None:
        self._probes = probes
        self._give_up_s = give_up_s
        self._for_ever = for_ever
        self._probe_lock = asyncio.Lock()
        self._last_probe: tuple[Side, float, RemoteError | None] | None = None
        self._probe_s = PROBE_FIRST_S
        self._since_s: float | None = None
        self._probing = False
        self.error: RemoteError | None = None

    def proved(self) -> None:
        """Bytes went all the way: whatever was wrong is over."""
        if self.error is not None:
            extra = told(LogEvent.SIDE_RESUMED, side=self.error.side, seconds=_now_s() - (self._since_s or _now_s()))
            log.info("the %s answers again; going on", self.error.side, extra=extra)
        self.error, self._since_s, self._probing, self._probe_s = None, None, False, PROBE_FIRST_S

    async def behind(self, error: RemoteError) -> RemoteError | None:
        """The side's own trouble behind an attempt's error; None where the fault is the file's."""
        if error.handling.scope is not Scope.FILE:
            return error
        if error.kind is Kind.FORBIDDEN:
            # Of one file that is about the plan; where the listing is refused as well, it is about the keys.
            refused = await self._probe(error.side)
            return refused if refused is not None and refused.handling.scope is Scope.ACCOUNT else None
        return await self._probe(error.side) if error.kind in _MAY_BE_THE_SIDE else None

    def report(self, error: RemoteError) -> None:
        """Close the gate."""
        if self.error is None:
            if self._for_ever or error.handling.scope is Scope.OUTAGE:
                patience = "" if self._for_ever else f"; giving up after {format_duration(self._give_up_s)}"
                limit_s = None if self._for_ever else self._give_up_s
                extra = told(LogEvent.SIDE_PAUSED, side=error.side, reason=error.kind, give_up_seconds=limit_s)
                log.error("paused: %s%s", error, patience, extra=extra)
            self._since_s = _now_s()
        elif self._probing:
            self._probe_s = min(self._probe_s * 2, PROBE_LIMIT_S)
        self._probing = False
        self.error = error

    @property
    def is_closed(self) -> bool:
        """Whether a claim must not be tried now."""
        return self.error is not None and not self._probing

    async def admission(self, in_flight: int) -> bool:
        """Wait until a claim may be tried; False where another attempt is trying already whether the outage is over.

        Raises:
            AccountStoppedError: it lasted longer than ``POLYB2_GIVE_UP``, or no attempt can succeed until a person acts.
        """
        if self.error is None:
            return True
        if self.error.handling.scope is Scope.ACCOUNT and not self._for_ever:
            raise AccountStoppedError(str(self.error))
        if self._probing:
            return in_flight == 0
        while self.error is not None and not self._probing:
            self._check_patience(self.error)
            await asyncio.sleep(min(self._probe_s, self._left_s()))
            problem = await self._probe(self.error.side) if self.error is not None else None
            if problem is None:
                # The side answers; one file finds out whether it takes bytes again (a cap is not seen by a listing).
                self._probing = True
            else:
                self._probe_s = min(self._probe_s * 2, PROBE_LIMIT_S)
        return in_flight == 0 or self.error is None

    def _check_patience(self, error: RemoteError) -> None:
        if self._left_s() <= 0:
            raise AccountStoppedError(
                f"gave up after {format_duration(self._give_up_s)}: {error}; the next run goes on from here"
            )

    def _left_s(self) -> float:
        if self._for_ever or self._since_s is None:
            return PROBE_LIMIT_S
        return self._since_s + self._give_up_s - _now_s()

    async def _probe(self, side: Side) -> RemoteError | None:
        """Ask a side for next to nothing, once for all attempts that fail together."""
        async with self._probe_lock:
            if self._last_probe is not None:
                asked, when_s, problem = self._last_probe
                if asked is side and _now_s() - when_s < PROBE_FRESH_S:
                    return problem
            problem = await self._ask(side)
            self._last_probe = side, _now_s(), problem
            return problem

    async def _ask(self, side: Side) -> RemoteError | None:
        try:
            async with asyncio.timeout(PROBE_PATIENCE_S):
                await self._probes[side]()
        except RemoteError as error:
            return error
        except TimeoutError:
            return RemoteError(side, Kind.STALLED, f"no answer within {PROBE_PATIENCE_S:.0f} s")
        return None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
