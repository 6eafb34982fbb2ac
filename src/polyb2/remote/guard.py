"""The guard of one side: whatever a request passes on its way out and back, put together once.

In this order: the rate limiter (``limiter.py``), a slot (control calls at once), the fence of its claim (a worker without its
lease starts nothing), the deadline or the stall watch, the translation of its errors; retries are around all of it. A call
that backs off holds no slot, and waiting for the limiter is no stall.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Self, TypeVar

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.retry import RequestPolicy
from polyb2.failpoints import failpoint
from polyb2.meters import Meters
from polyb2.remote.classify import FOREIGN, translate
from polyb2.remote.limiter import Limiter, Turn
from polyb2.remote.retries import Tries
from polyb2.remote.silence import Silence
from polyb2.remote.traffic import StallWatch, Traffic

T = TypeVar("T")
CONTROL_SLOTS = 16
"""S3 control calls of one side that may be under way at once."""
Fence = Callable[[], None]
"""Called before each request; raises when the claim, or the lease that it is under, no longer holds."""


class Guard:
    """The way to one side: :meth:`call` and :meth:`once` for control calls, :meth:`body` for what carries bytes."""

    def __init__(
        self,
        side: Side,
        policy: RequestPolicy,
        per_second: float,
        patience_s: float,
        meters: Meters | None = None,
        traffic: Traffic | None = None,
        slots: int = CONTROL_SLOTS,
    ) -> None:
        """``patience_s`` is the stall time-out; ``meters`` and ``traffic`` are those of both sides."""
        self.side = side
        self.policy = policy
        self.meters = meters or Meters()
        self._limiter = Limiter(per_second)
        self._slots = asyncio.Semaphore(slots)
        self._traffic = traffic or Traffic()
        self._fence: Fence = _unfenced
        self._silence = Silence(side, patience_s, policy.silences, lambda: self._traffic.passed_bytes)

    def fenced(self, fence: Fence) -> Self:
        """The same guard, with the same limiter and slots, for requests that may only begin while ``fence`` lets them."""
        fenced = copy.copy(self)
        fenced._fence = fence  # noqa: SLF001 - its own class
        return fenced

    @property
    def per_second(self) -> float | None:
        """Requests a second that the side is asked at most now; None where nothing limits them."""
        return self._limiter.per_second

    @asynccontextmanager
    async def body(
        self, operation: str, *, onward: Guard | None = None, within: StallWatch | None = None
    ) -> AsyncIterator[StallWatch]:
        """One request that brings or takes a body: paced, fenced, watched for stalls, its errors translated.

        Args:
            operation: its name.
            onward: the side that the body is sent to.
            within: the watch of the request that brings the body; it goes on watching.
        """
        if within is None:
            turn = await self._limiter.wait()
            # The turn at the other side is waited for now, so that the body need not wait for it.
            onward_turn = await onward.turn() if onward is not None else None
            with self._request(operation, turn) as patience_s:
                async with self._traffic.watch(patience_s, self.side) as watch:
                    watch.turn, watch.answered = onward_turn, partial(self._accepted, turn)
                    yield watch
            return
        waited, within.turn = within.turn, None
        if waited is None or waited.limiter is not self._limiter:
            with within.paused():
                waited = await self._limiter.wait()
        with self._request(operation, waited):
            yield within

    async def turn(self) -> Turn:
        """Wait until one more request may be sent."""
        return await self._limiter.wait()

    @contextmanager
    def _request(self, operation: str, turn: Turn) -> Iterator[float]:
        """What every request passes once it is its turn: fenced, its errors translated; how long it may be silent."""
        self._fence()
        patience_s = self._silence.patience_s(operation)
        failpoint(f"{self.side}.{operation}.before")
        try:
            yield patience_s
        except FOREIGN as error:
            # The foreign error is not kept: its text may hold a signed URL.
            translated = self._silence.explained(operation, translate(self.side, operation, error))
            self._failed(operation, turn, patience_s, translated)
            raise translated from None
        except RemoteError as error:
            if error.side is self.side:
                self._failed(operation, turn, patience_s, error)
            raise
        self._accepted(turn)
        failpoint(f"{self.side}.{operation}.after")

    def _accepted(self, turn: Turn) -> None:
        """Note that the side takes a request; of a long answer, as soon as its head says so."""
        turn.accepted()
        self._silence.answered()

    def _failed(self, operation: str, turn: Turn, patience_s: float, error: RemoteError) -> None:
        turn.failed(error)
        self._silence.failed(operation, error, patience_s)

    async def once(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """One control call that is not retried: answered within the stall time-out, or an error (``stalled``)."""
        turn = await self._limiter.wait()
        async with self._slots:
            with self._request(operation, turn) as patience_s:
                try:
                    async with asyncio.timeout(patience_s):
                        return await self.meters.answer(self.side, operation, request())
                except TimeoutError:
                    words = f"{operation} was not answered within {patience_s:.3g} s"
                    raise RemoteError(self.side, Kind.STALLED, words) from None

    async def call(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """One control call, retried by the policy.

        Raises:
            RemoteError: the tries are used up, or the kind of error is not retried.
        """
        return await self.tried(lambda: self.once(operation, request))

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """Run ``once`` until it succeeds or the policy says stop (RemoteError)."""
        tries = Tries(self.policy, self.meters, self._silence.is_lasting)
        while True:
            try:
                return await once()
            except RemoteError as error:
                delay_s = tries.delay_s(error)
            await asyncio.sleep(delay_s)


def _unfenced() -> None:
    """Of requests that belong to no claim: discovery, and commands that only look."""
