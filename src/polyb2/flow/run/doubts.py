"""Answers of a side about one file that are not accepted at once; kept by the process.

Two kinds are doubted. An intermediary's answer (a page, a redirect) says nothing about the file, but one that comes
again and again for the same file, while others succeed, will not end by itself. A 403 or 404 of a file that the
listing shows may mean that the file is just being published: if its neighbours by date can be read, it is requested again
with growing back-off. Invariant: both are bounded, so that no file is requested without end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.records import Claim
from polyb2.core.retry import TIMING
from polyb2.flow.inspect.entitlement import reads_near
from polyb2.remote.polygon import Source

INTERMEDIARY_MAX = 6
"""An intermediary's answers to the same file, each while the side was well, after which it is parked: a quarter of an
hour."""
TRIES, TRIES_YOUNG = 6, 8
"""Refusals that are doubted: of any file 15 minutes' worth by the default back-off, of a young one an hour's."""
YOUNG_MS = 24 * 3600 * 1000
NEAR_MAX = 500
_DOUBTFUL = {Kind.FORBIDDEN, Kind.NOT_FOUND}


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
        month, now_s = key.rpartition("/")[0], time.monotonic()
        asked_s, could = self._near.get(month, (now_s - self.near_fresh_s, False))
        if now_s - asked_s >= self.near_fresh_s:
            could = await reads_near(source, key)
            if len(self._near) >= NEAR_MAX:
                self._near.clear()
            self._near[month] = now_s, could
        return could
