"""How many long bodies may move at once: a few where the process is what they wait for, else as many as there are streams.

Where the event loop's thread has no time left, more bodies under way bring no byte sooner: they push each other out of the
processor's caches, and each holds buffers. Pure arithmetic: how busy the thread was is passed in, ten times a second.
"""

from __future__ import annotations

FEW = 8
"""Bodies that move at once in any case; measured: at 4 GiB over loopback neither 4 nor 16 are faster."""
REMEMBERED = 0.75
"""How much a look leaves of what was seen before: it takes half a second until most is forgotten."""
SPARE, FULL = 0.6, 0.9
"""Shares of the time that the thread works: below the first more bodies may move, above the other fewer."""


class Level:
    """Follows the thread's share of work while somebody waits: doubles where it has time to spare, and falls one by one."""

    def __init__(self, streams: int) -> None:
        self._most = streams
        self._few = min(FEW, streams)
        self._share: float | None = None
        self.bodies = self._few
        """That may move at once now."""

    def look(self, share: float) -> None:
        """The thread worked for ``share`` of the time since the last look, 0 to 1."""
        before = share if self._share is None else self._share
        self._share = REMEMBERED * before + (1 - REMEMBERED) * share
        if self._share < SPARE:
            self.bodies = min(2 * self.bodies, self._most)
        elif self._share > FULL:
            self.bodies = max(self.bodies - 1, self._few)
