"""When not a file but a whole side is in trouble: pause, probe slowly, say it once, charge nobody.

A connection that was never established, a cap, refused keys and a stranger's answer are such by their kind. A request that
failed all its tries is one only if the side does not answer the same question about other files either; else the fault is the
file's. The probe asks what failed: of the source a byte of the file's neighbours, of the target a listing, and then one file
finds out whether bytes go again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from polyb2.core.answers import refused_by_proxy
from polyb2.core.errors import AccountStoppedError, Kind, RemoteError, Scope, Side
from polyb2.core.logevents import LogEvent, told
from polyb2.core.units import format_duration
from polyb2.flow.doubt import Doubts

log = logging.getLogger(__name__)
PROBE_FIRST_S = 1.0
PROBE_LIMIT_S = 60.0
PROBE_PATIENCE_S = 15.0
PROBE_FRESH_S = 0.9
MOVED_PATIENCE_S = 20.0
"""How long a redirect may last: a network's login page goes away, an endpoint that moved does not."""
FAILING_TOGETHER = 3
"""Files in a row that the target fails, none getting through, after which it is not the files."""
_MAY_BE_THE_SIDE = {
    Kind.CONNECTION_LOST,
    Kind.STALLED,
    Kind.SERVER_ERROR,
    Kind.THROTTLED,
    Kind.TRUNCATED,
    Kind.INCONSISTENT,
}
Probe = Callable[[str], Awaitable[bool]]
"""Asks a side for next to nothing near a key (empty: a listing). Whether a transfer's own request was answered; or raises."""


@dataclass(frozen=True, slots=True)
class _Probed:
    """The outcome of a probe.

    Attributes:
        problem: what stands in the way.
        proven: requests of the kind that failed are answered.
    """

    problem: RemoteError | None
    proven: bool = False


class Outage:
    """The gate before every claim; closed while a side is away."""

    def __init__(self, probes: Mapping[Side, Probe], *, give_up_s: float, for_ever: bool) -> None:
        self._probes = probes
        self._give_up_s = give_up_s
        self._for_ever = for_ever
        self._probe_lock = asyncio.Lock()
        self._last_probe: tuple[Side, str, float, _Probed] | None = None
        self._probe_s = PROBE_FIRST_S
        self._since_s: float | None = None
        self._probing = False
        self._near = ""
        self._beside = 0
        """Files at work beside the one that is being tried: they may be long, and it waits for none of them."""
        self._proofs = 0
        self._proved_s = 0.0
        self._failing: set[str] = set()
        self.doubts = Doubts()
        self.error: RemoteError | None = None

    def proved(self, key: str, began_s: float) -> None:
        """Bytes of a file went all the way: whatever was wrong before its attempt began (by the loop's clock) is over."""
        self._proofs += 1
        self._proved_s = _now_s()
        self._failing.clear()
        self.doubts.forget(key)
        if self._since_s is not None and began_s < self._since_s:
            # Its requests may have been answered before the trouble began.
            return
        if self.error is not None:
            extra = told(LogEvent.SIDE_RESUMED, side=self.error.side, seconds=_now_s() - (self._since_s or _now_s()))
            log.info("the %s answers again; going on", self.error.side, extra=extra)
        self.error, self._since_s, self._probing, self._probe_s = None, None, False, PROBE_FIRST_S

    async def behind(self, error: RemoteError, key: str, began_s: float) -> RemoteError | None:
        """The side's own trouble behind the error of an attempt at a file; None where the fault is the file's.

        Args:
            error: what ended the attempt.
            key: of the file.
            began_s: when the attempt began, by the loop's clock.
        """
        if error.is_strange:
            return await self._behind_strange(error, key)
        if error.kind is Kind.KEYS_REFUSED:
            listing = await self._probe(error.side, "")
            return refused_by_proxy(error) if listing.problem is None else error
        if error.handling.scope is not Scope.FILE:
            return error
        if error.kind is Kind.FORBIDDEN:
            # Of one file that is about the plan; where the listing is refused as well, it is about the keys.
            refused = (await self._probe(error.side, "")).problem
            return refused if refused is not None and refused.handling.scope is not Scope.FILE else None
        # Where other files come through, answers that contradict the listing are this one's own trouble.
        is_own = error.kind.contradicts and self._proved_s >= began_s
        return await self._behind_failing(error, key) if error.kind in _MAY_BE_THE_SIDE and not is_own else None

    async def _behind_strange(self, error: RemoteError, key: str) -> RemoteError | None:
        """A stranger's answer is the side's trouble, unless only this file meets it while others get through."""
        probed = await self._probe(error.side, key)
        self.doubts.note_strange(key, proofs=self._proofs, side_is_well=probed.proven)
        if probed.proven or self.doubts.is_settled(key):
            return None
        is_account = probed.problem is not None and probed.problem.handling.scope is Scope.ACCOUNT
        return probed.problem if is_account else error

    async def _behind_failing(self, error: RemoteError, key: str) -> RemoteError | None:
        problem = (await self._probe(error.side, key, conclusive=error.kind.contradicts)).problem
        if error.kind.contradicts and self._is_contradicting(error.side, problem):
            return error
        if problem is not None or error.side is Side.SOURCE:
            return problem
        # A listing says nothing of writes: what happens to the other files does.
        self._failing.add(key)
        return error if len(self._failing) >= FAILING_TOGETHER else None

    def _is_contradicting(self, side: Side, problem: RemoteError | None) -> bool:
        """Whether other files meet such answers too: as the probe shows, or by what the run is paused for already."""
        known = self.error if self.error is not None and self.error.side is side else None
        return any(found is not None and found.kind.contradicts for found in (problem, known))

    @property
    def proofs(self) -> int:
        """How many files have come through so far."""
        return self._proofs

    def report(self, error: RemoteError, key: str, proofs: int) -> None:
        """Close the gate, unless a file came through since the error.

        Args:
            error: the side's trouble.
            key: the file that met it.
            proofs: how many files had come through by then.
        """
        if proofs != self._proofs and error.handling.scope is not Scope.ACCOUNT:
            return
        if self.error is None:
            limit_s = self._patience_s(error)
            if self._for_ever or error.handling.scope is Scope.OUTAGE:
                patience = "" if limit_s is None else f"; giving up after {format_duration(limit_s)}"
                extra = told(LogEvent.SIDE_PAUSED, side=error.side, reason=error.kind, give_up_seconds=limit_s)
                log.error("paused: %s%s", error, patience, extra=extra)
            self._since_s = _now_s()
        elif self._probing:
            self._probe_s = min(self._probe_s * 2, PROBE_LIMIT_S)
        self._probing = False
        self._near = key
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
            self._beside = min(self._beside, in_flight)
            return in_flight <= self._beside
        while self.error is not None and not self._probing:
            self._check_patience(self.error)
            await asyncio.sleep(min(self._probe_s, self._left_s(self.error)))
            problem = (await self._probe(self.error.side, self._near)).problem if self.error is not None else None
            if problem is None or problem.kind.contradicts:
                # The side answers; one file finds out whether it takes bytes again (a cap is not seen by a listing).
                self._probing, self._beside = True, in_flight
            else:
                self._probe_s = min(self._probe_s * 2, PROBE_LIMIT_S)
        return True

    def _check_patience(self, error: RemoteError) -> None:
        if self._left_s(error) <= 0:
            patience = format_duration(self._patience_s(error) or 0.0)
            raise AccountStoppedError(f"gave up after {patience}: {error}; the next run goes on from here")

    def _patience_s(self, error: RemoteError) -> float | None:
        """How long the side may be away; None for ever."""
        if self._for_ever:
            return None
        has_moved = error.is_strange and error.kind is Kind.MISCONFIGURED
        return min(self._give_up_s, MOVED_PATIENCE_S) if has_moved else self._give_up_s

    def _left_s(self, error: RemoteError) -> float:
        patience_s = self._patience_s(error)
        if patience_s is None or self._since_s is None:
            return PROBE_LIMIT_S
        return self._since_s + patience_s - _now_s()

    async def _probe(self, side: Side, near: str, *, conclusive: bool = False) -> _Probed:
        """Ask a side for next to nothing, once for all attempts that fail together.

        Args:
            side: which.
            near: a key.
            conclusive: that files elsewhere are well is not enough; those beside the key have to be.
        """
        async with self._probe_lock:
            if self._last_probe is not None:
                asked, was_near, when_s, probed = self._last_probe
                is_enough = probed.problem is not None or not conclusive or _folder(was_near) == _folder(near)
                is_same = (asked, bool(was_near)) == (side, bool(near)) and is_enough
                if is_same and _now_s() - when_s < PROBE_FRESH_S:
                    return probed
            probed = await self._ask(side, near)
            self._last_probe = side, near, _now_s(), probed
            return probed

    async def _ask(self, side: Side, near: str) -> _Probed:
        try:
            async with asyncio.timeout(PROBE_PATIENCE_S):
                return _Probed(None, proven=await self._probes[side](near))
        except RemoteError as error:
            return _Probed(error)
        except TimeoutError:
            return _Probed(RemoteError(side, Kind.STALLED, f"no answer within {PROBE_PATIENCE_S:.0f} s"))


def _folder(key: str) -> str:
    """Of a key's dataset and year, where its neighbours are."""
    return "/".join(key.split("/")[:3])


def _now_s() -> float:
    return asyncio.get_running_loop().time()
