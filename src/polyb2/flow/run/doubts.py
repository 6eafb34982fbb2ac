"""Answers of a side about one file that are not believed at once, as a process remembers them.

Two kinds are not believed at once. A stranger's answer (a page, a redirect) says nothing about the file, but one that comes
again and again for the same file, while others get through, is not going to end by itself. A 403 or 404 of a file that the
listing shows may be that of a file which is being published: where its neighbours by date can be read, it is asked for again
with growing back-off. Invariant: both are bounded, so that no file is asked for without an end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.records import Claim
from polyb2.core.timing import TIMING
from polyb2.flow.inspect.entitlement import reads_near
from polyb2.remote.polygon import Source

STRANGE_MAX = 6
"""A stranger's answers to the same file, each while the side was well, after which it is parked: a quarter of an hour."""
TRIES, TRIES_YOUNG = 6, 8
"""Refusals that are not believed: of any file 15 minutes' worth by the default back-off, of a young one an hour's."""
YOUNG_MS = 24 * 3600 * 1000
NEAR_MAX = 500
_DOUBTFUL = {Kind.FORBIDDEN, Kind.NOT_FOUND}


@dataclass(slots=True)
class _Strange:
    """How often a file met a stranger while the side was well, and how many files had come through by the last time."""

    count: int = 0
    proofs: int = 0


@dataclass(slots=True)
class Doubts:
    """By key, for files that failed and are not completed or parked."""

    near_fresh_s: float = TIMING.near_fresh_s
    _strange: dict[str, _Strange] = field(default_factory=dict)
    _refused: dict[str, int] = field(default_factory=dict)
    _near: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """How many answers about a file were not believed; its back-off grows with them."""
        strange = self._strange.get(key)
        return self._refused.get(key, 0) + (strange.count if strange else 0)

    def forget(self, key: str) -> None:
        """The file is completed, parked, or another revision."""
        self._strange.pop(key, None)
        self._refused.pop(key, None)

    def note_strange(self, key: str, *, proofs: int, side_is_well: bool) -> None:
        """Count a stranger's answer, unless it may be that of a side which is away.

        Args:
            key: the file.
            proofs: files that have come all the way in this process.
            side_is_well: another file was just seen to get the service's own answer.
        """
        strange = self._strange.setdefault(key, _Strange(proofs=proofs))
        strange.count += side_is_well or proofs > strange.proofs
        strange.proofs = proofs

    def is_settled(self, key: str) -> bool:
        """Whether a stranger has answered about a file too often to wait for another answer."""
        strange = self._strange.get(key)
        return strange is not None and strange.count >= STRANGE_MAX

    async def about(self, source: Source, claim: Claim, error: RemoteError, now_ms: int) -> bool:
        """Whether the answer is not to be believed yet; counts it."""
        if error.is_strange:
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
        """Whether a neighbour of a file can be read, asked once a minute for a month of a dataset."""
        month, now_s = key.rpartition("/")[0], time.monotonic()
        asked_s, could = self._near.get(month, (now_s - self.near_fresh_s, False))
        if now_s - asked_s >= self.near_fresh_s:
            could = await reads_near(source, key)
            if len(self._near) >= NEAR_MAX:
                self._near.clear()
            self._near[month] = now_s, could
        return could
