"""The trouble behind a failed attempt: that of its file, or of the whole side.

A connection that was never established, a cap, refused keys and a stranger's answer are the side's by their kind. A request
that failed all its tries is the side's only if it does not answer the same question about other files either. The probe asks
what failed: of the source a byte of the file's neighbours, of the target a listing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from polyb2.core.answers import refused_by_proxy
from polyb2.core.errors import Kind, RemoteError, Scope, Side
from polyb2.core.timing import TIMING, Timing
from polyb2.flow.run.doubts import Doubts

PROBE_TIMEOUT_S = 15.0
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
_OF_A_SOURCE = {Kind.UNSUPPORTED, Kind.REFUSED}
"""Of a source, whose other files can be asked the same; the target may well refuse one key, or one size."""
Probe = Callable[[str], Awaitable[bool]]
"""Asks a side for next to nothing near a key (empty: a listing). True if a transfer's own request was answered; or raises."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The outcome of a probe.

    Attributes:
        problem: what stands in the way.
        proven: requests of the kind that failed are answered.
    """

    problem: RemoteError | None
    proven: bool = False


class Diagnosis:
    """Probes the sides, and remembers which files fail.

    Attributes:
        doubts: answers about single files that are not believed yet.
        proofs: files that came all the way so far.
    """

    def __init__(self, probes: Mapping[Side, Probe], timing: Timing = TIMING) -> None:
        self._fresh_s = timing.probe_fresh_s
        self._probes = probes
        self._lock = asyncio.Lock()
        self._last: tuple[Side, str, float, Probed] | None = None
        self._failing: set[str] = set()
        self.doubts = Doubts(timing.near_fresh_s)
        self.proofs = 0
        self._proved_s = 0.0

    def proved(self, key: str) -> None:
        """Note that the bytes of a file went all the way."""
        self.proofs += 1
        self._proved_s = _now_s()
        self._failing.clear()
        self.doubts.forget(key)

    async def behind(
        self, error: RemoteError, key: str, began_s: float, known: RemoteError | None = None
    ) -> RemoteError | None:
        """Find the side's own trouble behind the error of an attempt at a file; None where the fault is the file's.

        Args:
            error: what ended the attempt.
            key: of the file.
            began_s: when the attempt began, by the loop's clock.
            known: the trouble for which the run is paused already.
        """
        if error.is_strange:
            return await self._behind_strange(error, key)
        if error.kind is Kind.KEYS_REFUSED:
            listing = await self.probe(error.side, "")
            return refused_by_proxy(error) if listing.problem is None else error
        if error.handling.scope is not Scope.FILE:
            return error
        if error.kind is Kind.FORBIDDEN:
            # Of one file that is about the plan; where the listing is refused as well, it is about the keys.
            refused = (await self.probe(error.side, "")).problem
            return refused if refused is not None and refused.handling.scope is not Scope.FILE else None
        # Where other files come through, answers that contradict the listing are this one's own trouble.
        is_own = error.kind.contradicts and self._proved_s >= began_s
        may_be = error.kind in _MAY_BE_THE_SIDE or (error.side is Side.SOURCE and error.kind in _OF_A_SOURCE)
        if not may_be or is_own:
            return None
        return await self._behind_failing(error, key, known)

    async def _behind_strange(self, error: RemoteError, key: str) -> RemoteError | None:
        """A stranger's answer is the side's trouble, unless only this file meets it while others get through."""
        probed = await self.probe(error.side, key)
        self.doubts.note_strange(key, proofs=self.proofs, side_is_well=probed.proven)
        if probed.proven or self.doubts.is_settled(key):
            return None
        is_account = probed.problem is not None and probed.problem.handling.scope is Scope.ACCOUNT
        return probed.problem if is_account else error

    async def _behind_failing(self, error: RemoteError, key: str, known: RemoteError | None) -> RemoteError | None:
        problem = (await self.probe(error.side, key, conclusive=error.kind.contradicts)).problem
        if error.kind.contradicts and any(_contradicts(found, error.side) for found in (problem, known)):
            # Other files meet such answers too.
            return error
        if problem is not None or error.side is Side.SOURCE:
            return problem
        # A listing says nothing of writes: what happens to the other files does.
        self._failing.add(key)
        return error if len(self._failing) >= FAILING_TOGETHER else None

    async def probe(self, side: Side, near: str, *, conclusive: bool = False) -> Probed:
        """Ask a side for next to nothing, once for all attempts that fail together.

        Args:
            side: which.
            near: a key.
            conclusive: that files elsewhere are well is not enough; those beside the key have to be.
        """
        async with self._lock:
            if self._last is not None:
                asked, was_near, when_s, probed = self._last
                is_enough = probed.problem is not None or not conclusive or _folder(was_near) == _folder(near)
                is_same = (asked, bool(was_near)) == (side, bool(near)) and is_enough
                if is_same and _now_s() - when_s < self._fresh_s:
                    return probed
            probed = await self._ask(side, near)
            self._last = side, near, _now_s(), probed
            return probed

    async def _ask(self, side: Side, near: str) -> Probed:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return Probed(None, proven=await self._probes[side](near))
        except RemoteError as error:
            return Probed(error)
        except TimeoutError:
            return Probed(RemoteError(side, Kind.STALLED, f"no answer within {PROBE_TIMEOUT_S:.0f} s"))


def _contradicts(found: RemoteError | None, side: Side) -> bool:
    return found is not None and found.side is side and found.kind.contradicts


def _folder(key: str) -> str:
    """The dataset and year of a key, where its neighbours are."""
    return "/".join(key.split("/")[:3])


def _now_s() -> float:
    return asyncio.get_running_loop().time()
