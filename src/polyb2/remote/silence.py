"""How long a command that only looks waits in all for a side that says nothing.

A run asks again and again, for it has time. ``doctor`` and ``datasets --probe`` make a dozen different requests, and a side
that is silent to several of them would hold a person up for many stall time-outs.
"""

from __future__ import annotations

from polyb2.core.errors import Kind, RemoteError, Side

LEAST_SHARE = 1 / 16
"""Of the stall time-out: what any request may wait, however long the side was silent before."""


class Silence:
    """The silent seconds of one side.

    Args:
        side: whose.
        patience_s: the stall time-out.
        in_all: how many of them the side gets; None: each request gets one.
    """

    def __init__(self, side: Side, patience_s: float, in_all: float | None) -> None:
        self._side = side
        self._patience_s = patience_s
        self._left_s = None if in_all is None else in_all * patience_s
        self._silent: dict[str, float] = {}
        """Operations that were not answered, and for how long."""

    def patience_s(self, operation: str) -> float:
        """How long a request may be silent.

        Raises:
            RemoteError: ``stalled``; this operation was not answered before.
        """
        if self._left_s is None:
            return self._patience_s
        if (silent_s := self._silent.get(operation)) is not None:
            words = f"{operation} was not answered within {silent_s:.3g} s before; it is not sent again"
            raise RemoteError(self._side, Kind.STALLED, words)
        return max(LEAST_SHARE * self._patience_s, min(self._patience_s, self._left_s))

    def note(self, operation: str, waited_s: float | None) -> None:
        """A request ended: after so long a silence, or (None) with an answer."""
        if self._left_s is None:
            return
        if waited_s is not None:
            self._silent[operation] = waited_s
            self._left_s -= waited_s
