"""The limits of waiting for a silent side, and the error of a side that never answered at all.

A silent side costs a stall time-out for each request. ``doctor`` and ``datasets --probe`` make a dozen different requests, so
they have a budget for all of them. Any other control call is sent twice while nothing at all comes from the side: a third
time would keep a person waiting for three stall time-outs, and a run learns sooner from its probe that the side is away.
"""

from __future__ import annotations

from collections.abc import Callable

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.waits import loop_s

LEAST_SHARE = 1 / 16
"""Share of the stall time-out that any request may wait, however long the side was silent before."""
LASTING = 1.5
"""After a silence of this many stall time-outs, which the second one in a row completes, no control call is retried."""
_HUNG_UP = (
    "nothing on this port has answered yet: check that the endpoint URL names the right host and port, and whether it is "
    "http:// or https:// there; then a proxy, if one is in between"
)


class Silence:
    """The silent seconds of one side.

    Args:
        side: the side.
        stall_timeout_s: the stall time-out.
        in_all: stall time-outs that the side gets in all; None: each request gets one.
        moved: bytes of bodies that passed so far; a side whose bodies move is slow, not silent.
    """

    def __init__(
        self, side: Side, stall_timeout_s: float, in_all: float | None, moved: Callable[[], int] = lambda: 0
    ) -> None:
        self._side = side
        self._stall_timeout_s = stall_timeout_s
        self._left_s = None if in_all is None else in_all * stall_timeout_s
        self._silent: dict[str, float] = {}
        """Operations that were not answered, and the time that was waited for each."""
        self._moved = moved
        self._since: tuple[float, int] | None = None
        """The start of the silence (the loop's clock), and the bytes that had passed by then."""
        self._has_answered = False

    def stall_timeout_s(self, operation: str) -> float:
        """The time-out of the next request.

        Raises:
            RemoteError: ``stalled``; this operation was not answered before.
        """
        if self._left_s is None:
            return self._stall_timeout_s
        if (silent_s := self._silent.get(operation)) is not None:
            words = f"{operation} was not answered within {silent_s:.3g} s before; it is not sent again"
            raise RemoteError(self._side, Kind.STALLED, words)
        return max(LEAST_SHARE * self._stall_timeout_s, min(self._stall_timeout_s, self._left_s))

    def answered(self) -> None:
        """Note that a request was answered."""
        self._has_answered, self._since = True, None

    def failed(self, operation: str, error: RemoteError, waited_s: float) -> None:
        """Note that a request failed; if it stalled, after ``waited_s`` without an answer."""
        if error.kind is not Kind.STALLED:
            self._has_answered = self._has_answered or error.code is not None
            self._since = None
            return
        if self._left_s is not None:
            self._silent[operation] = waited_s
            self._left_s -= waited_s
        if self._since is None or self._since[1] != self._moved():
            self._since = loop_s() - waited_s, self._moved()

    def is_lasting(self, error: RemoteError) -> bool:
        """Tell if the side was silent for so long that the request which met ``error`` is not retried."""
        is_silent = error.kind is Kind.STALLED and error.side is self._side and self._since is not None
        return is_silent and loop_s() - self._since[0] >= LASTING * self._stall_timeout_s  # type: ignore[index]

    def explained(self, operation: str, error: RemoteError) -> RemoteError:
        """The error of a connection, in context: if the other end hung up on all so far, it may not be the service."""
        if error.kind is not Kind.CONNECTION_LOST or error.code is not None or self._has_answered:
            return error
        words = f"{operation}: the other end closes its connections without an answer"
        return RemoteError(self._side, Kind.UNREACHABLE, words, advice=_HUNG_UP)
