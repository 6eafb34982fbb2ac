"""How long a side may be silent before polyb2 stops asking, and what a side is that never answered at all.

A silent side costs a stall time-out for each request. ``doctor`` and ``datasets --probe`` make a dozen different ones, so
they have a budget for all of them. Any other control call is sent twice while nothing at all comes from the side: a third
time would keep a person waiting for three stall time-outs, and a run learns sooner from its probe that the side is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polyb2.core.errors import Kind, RemoteError, Side

LEAST_SHARE = 1 / 16
"""Of the stall time-out: what any request may wait, however long the side was silent before."""
LASTING = 1.5
"""Stall time-outs without a byte, after which no control call is tried again: the second one in a row."""
_HUNG_UP = (
    "nothing on this port has answered yet: check that the endpoint URL names the right host and port, and whether it is "
    "http:// or https:// there; then a proxy, if one is in between"
)


class Silence:
    """The silent seconds of one side.

    Args:
        side: whose.
        patience_s: the stall time-out.
        in_all: how many of them the side gets; None: each request gets one.
        moved: bytes of bodies that passed so far; a side whose bodies move is not silent, it is slow.
    """

    def __init__(
        self, side: Side, patience_s: float, in_all: float | None, moved: Callable[[], int] = lambda: 0
    ) -> None:
        self._side = side
        self._patience_s = patience_s
        self._left_s = None if in_all is None else in_all * patience_s
        self._silent: dict[str, float] = {}
        """Operations that were not answered, and for how long."""
        self._moved = moved
        self._since: tuple[float, int] | None = None
        """Since when nothing came (the loop's clock), and the bytes that had passed by then."""
        self._has_answered = False

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

    def answered(self) -> None:
        """A request was answered."""
        self._has_answered, self._since = True, None

    def failed(self, operation: str, error: RemoteError, waited_s: float) -> None:
        """A request failed; where it stalled, after ``waited_s`` without an answer."""
        if error.kind is not Kind.STALLED:
            self._has_answered = self._has_answered or error.code is not None
            self._since = None
            return
        if self._left_s is not None:
            self._silent[operation] = waited_s
            self._left_s -= waited_s
        if self._since is None or self._since[1] != self._moved():
            self._since = _now_s() - waited_s, self._moved()

    def is_lasting(self, error: RemoteError) -> bool:
        """Whether the side was silent for so long that the request which met ``error`` is not tried again."""
        is_silent = error.kind is Kind.STALLED and error.side is self._side and self._since is not None
        return is_silent and _now_s() - self._since[0] >= LASTING * self._patience_s  # type: ignore[index]

    def explained(self, operation: str, error: RemoteError) -> RemoteError:
        """The error of a connection; where the other end hung up on all so far, it is not known to be the service."""
        if error.kind is not Kind.CONNECTION_LOST or error.code is not None or self._has_answered:
            return error
        words = f"{operation}: the other end closes its connections without an answer"
        return RemoteError(self._side, Kind.UNREACHABLE, words, advice=_HUNG_UP)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
