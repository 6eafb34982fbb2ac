"""The cause of a failed attempt: its file, or the whole side.

A connection that was never established, a cap, refused keys and an intermediary's answer are the side's by their
kind. A request that failed all its tries is the side's only if the same request fails for other files as well. The
probe repeats the kind of request that failed: to the source for a byte of the file's neighbours, to the target for a
listing.

Two kinds of answers about one file are doubted. An intermediary's answer (a page, a redirect) says nothing about the file,
but one that comes again and again for the same file, while others succeed, will not end by itself. A 403 or 404 of a file
that the listing shows may mean that the file is just being published: if its neighbours by date can be read, it is
requested again with growing back-off. Invariant: both are bounded, so that no file is requested without end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from polyb2.core.classification import refused_by_proxy
from polyb2.core.errors import Kind, RemoteError, Scope, Side
from polyb2.core.records import Claim
from polyb2.core.retry import TIMING, Timing
from polyb2.flow.inspect.entitlement import reads_near
from polyb2.remote.polygon import Source
from polyb2.waits import loop_s

PROBE_TIMEOUT_S = 20.0
"""Time-out of a probe: its listing and, at the source, its reads (each within ``SAMPLE_TIMEOUT_S``)."""
FAILING_TOGETHER = 3
"""Consecutive files that fail at the target, without one that succeeds, after which the target is at fault."""
INTERMEDIARY_MAX = 6
"""After this many of an intermediary's answers to the same file, each while the side was well, the file is parked (about
15 minutes)."""
TRIES, TRIES_YOUNG = 6, 8
"""Refusals that are doubted: of any file 15 minutes' worth by the default back-off, of a young one an hour's."""
YOUNG_MS = 24 * 3600 * 1000
NEAR_MAX = 500
_DOUBTFUL = {Kind.FORBIDDEN, Kind.NOT_FOUND}
_MAY_BE_THE_SIDE = {
    Kind.CONNECTION_LOST,
    Kind.STALLED,
    Kind.SERVER_ERROR,
    Kind.THROTTLED,
    Kind.TRUNCATED,
    Kind.INCONSISTENT,
}
Probe = Callable[[str], Awaitable[bool]]
"""Sends a side a minimal request near a key (empty: a listing). True if a request like a transfer's was answered; or
raises."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The outcome of a probe.

    Attributes:
        problem: the obstacle; None if there is none.
        proven: requests of the kind that failed are answered.
    """

    problem: RemoteError | None
    proven: bool = False


class Diagnosis:
    """Probes the sides, and remembers the files that fail.

    Attributes:
        doubts: answers about single files that are not accepted yet.
        proofs: files that were completed so far.
    """

    def __init__(self, probes: Mapping[Side, Probe], timing: Timing = TIMING) -> None:
        self._fresh_s = timing.probe_fresh_s
        self._probes = probes
        self._lock = asyncio.Lock()
        self._last: tuple[Side, str, float, Probed] | None = None
        self._failing: set[str] = set()
        self.doubts = Doubts(timing.near_fresh_s)
        self.proofs = 0
        self._proved_s = -math.inf
        self._proved_key = ""

    def proved(self, key: str) -> None:
        """Note that all bytes of a file arrived."""
        self.proofs += 1
        self._proved_s, self._proved_key = loop_s(), key
        self._failing.clear()
        self.doubts.forget(key)

    async def behind(
        self, error: RemoteError, key: str, began_s: float, known: RemoteError | None = None
    ) -> RemoteError | None:
        """Find the side's own trouble behind the error of an attempt at a file; None if it is the file's.

        Args:
            error: what ended the attempt.
            key: the file.
            began_s: when the attempt began, by the loop's clock.
            known: the trouble for which the run is paused already, if the attempt may have met it.
        """
        if error.by_intermediary:
            return await self._behind_intermediary(error, key)
        if error.kind is Kind.KEYS_REFUSED:
            listing = await self.probe(error.side, "")
            return refused_by_proxy(error) if listing.problem is None else error
        if error.handling.scope is not Scope.FILE:
            return error
        if error.kind is Kind.FORBIDDEN:
            # For one file, the plan is the cause; if the listing is refused as well, the keys are.
            refused = (await self.probe(error.side, "")).problem
            return refused if refused is not None and refused.handling.scope is not Scope.FILE else None
        is_unsupported = error.side is Side.SOURCE and error.kind is Kind.UNSUPPORTED
        is_settled_by_others = (error.kind.contradicts or is_unsupported) and self._proved_s >= began_s
        if is_settled_by_others or not (is_unsupported or error.kind in _MAY_BE_THE_SIDE):
            # While other files succeed, some answers are about this file; and a target may refuse one key, or one size.
            return None
        return await self._behind_failing(error, key, known)

    async def _behind_intermediary(self, error: RemoteError, key: str) -> RemoteError | None:
        """Treat an intermediary's answer as the side's trouble, unless only this file meets it while others succeed."""
        probed = await self.probe(error.side, key)
        self.doubts.note_intermediary(key, proofs=self.proofs, side_is_well=probed.proven)
        if probed.proven or self.doubts.is_settled(key):
            return None
        is_account = probed.problem is not None and probed.problem.handling.scope is Scope.ACCOUNT
        return probed.problem if is_account else error

    async def _behind_failing(self, error: RemoteError, key: str, known: RemoteError | None) -> RemoteError | None:
        probed = await self.probe(error.side, key, conclusive=error.kind.contradicts)
        found = probed.problem or known
        if error.kind.contradicts and found is not None and found.side is error.side and found.kind.contradicts:
            # Other files meet such answers too.
            return error
        if probed.problem is not None or error.side is Side.SOURCE:
            return probed.problem
        # A listing does not test writes; the other files do.
        self._failing.add(key)
        return error if len(self._failing) >= FAILING_TOGETHER else None

    async def probe(self, side: Side, near: str, *, conclusive: bool = False) -> Probed:
        """Send a side a minimal request, once for all attempts that fail together.

        Args:
            side: the side.
            near: a key.
            conclusive: only files beside the key count; success of files elsewhere is not enough.
        """
        async with self._lock:
            if self._last is not None:
                asked, was_near, when_s, probed = self._last
                is_enough = probed.problem is not None or not conclusive or _folder(was_near) == _folder(near)
                is_same = (asked, bool(was_near)) == (side, bool(near)) and is_enough
                if is_same and loop_s() - when_s < self._fresh_s:
                    return probed
            probed = await self._ask(side, near)
            proved_elsewhere = bool(near and self._proved_key) and _folder(self._proved_key) != _folder(near)
            if side is Side.SOURCE and probed.problem is not None and not conclusive and proved_elsewhere:
                # A whole dataset may fail while the others are read.
                probed = await self._ask(side, self._proved_key)
            self._last = side, near, loop_s(), probed
            return probed

    async def _ask(self, side: Side, near: str) -> Probed:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return Probed(None, proven=await self._probes[side](near))
        except RemoteError as error:
            return Probed(error)
        except TimeoutError:
            return Probed(RemoteError(side, Kind.STALLED, f"no answer within {PROBE_TIMEOUT_S:.0f} s"))


def _folder(key: str) -> str:
    """The dataset and year of a key, which its neighbours share."""
    return "/".join(key.split("/")[:3])


# -- doubts -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Met:
    """The number of an intermediary's answers to a file while the side was well, and the proofs at the time of the last."""

    count: int = 0
    proofs: int = 0


@dataclass(slots=True)
class Doubts:
    """Doubts by key, for files that failed and are not completed or parked."""

    near_fresh_s: float = TIMING.near_fresh_s
    _met: dict[str, _Met] = field(default_factory=dict)
    _refused: dict[str, int] = field(default_factory=dict)
    _near: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """The number of doubted answers about a file; its back-off grows with them."""
        met = self._met.get(key)
        return self._refused.get(key, 0) + (met.count if met else 0)

    def forget(self, key: str) -> None:
        """Drop the doubts about a file: it is completed, parked, or another revision."""
        self._met.pop(key, None)
        self._refused.pop(key, None)

    def note_intermediary(self, key: str, *, proofs: int, side_is_well: bool) -> None:
        """Count an intermediary's answer, unless the side itself may be away.

        Args:
            key: the file.
            proofs: files that were completed in this process.
            side_is_well: another file was just seen to get the service's own answer.
        """
        met = self._met.setdefault(key, _Met(proofs=proofs))
        met.count += side_is_well or proofs > met.proofs
        met.proofs = proofs

    def is_settled(self, key: str) -> bool:
        """Tell if an intermediary has answered about a file too often to wait for another answer."""
        met = self._met.get(key)
        return met is not None and met.count >= INTERMEDIARY_MAX

    async def about(self, source: Source, claim: Claim, error: RemoteError, now_ms: int) -> bool:
        """Tell if the answer is to be doubted still; counts it."""
        if error.by_intermediary:
            return not self.is_settled(claim.key)
        if error.side is not Side.SOURCE or error.kind not in _DOUBTFUL:
            return False
        if error.kind is Kind.FORBIDDEN and not claim.forbidden_before:
            return False  # the first one waits in any case
        is_young = now_ms - claim.revision.last_modified_ms < YOUNG_MS
        tried = self._refused.get(claim.key, 0)
        if tried + 1 >= (TRIES_YOUNG if is_young else TRIES) or not await self._reads_near(source, claim.key):
            return False
        self._refused[claim.key] = tried + 1
        return True

    async def _reads_near(self, source: Source, key: str) -> bool:
        """Tell if a neighbour of a file can be read, asked once a minute for a month of a dataset."""
        month, now_s = key.rpartition("/")[0], loop_s()
        asked_s, could = self._near.get(month, (now_s - self.near_fresh_s, False))
        if now_s - asked_s >= self.near_fresh_s:
            could = await reads_near(source, key)
            if len(self._near) >= NEAR_MAX:
                self._near.clear()
            self._near[month] = now_s, could
        return could
