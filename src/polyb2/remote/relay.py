"""A body on its way from one side to the other: counted, hashed if asked, paced, and watched for stalls.

Memory of one stream: what aiohttp buffers of the body that comes in (twice its 256 KiB read buffer) and one chunk of it on
the way out; see ``core.parts.STREAM_BUFFER_BYTES``. Progress time-outs, no total ones.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Self

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.guards import Bandwidth
from polyb2.remote.translate import FOREIGN, translate


class StallWatch:
    """Raises when no byte moved for ``patience_s``, and knows which side was waited for."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._scope = asyncio.timeout(patience_s)
        self._renewed_s = 0.0
        self.waiting_for = Side.SOURCE

    def progress(self, waiting_for: Side) -> None:
        """A byte moved; from now on it is ``waiting_for``'s turn."""
        self.waiting_for = waiting_for
        now_s = asyncio.get_running_loop().time()
        if now_s - self._renewed_s > self._patience_s / 8:
            self._renewed_s = now_s
            self._scope.reschedule(now_s + self._patience_s)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waiting for our own bandwidth limit is no stall."""
        self._scope.reschedule(None)
        yield
        self._renewed_s = 0.0
        self.progress(self.waiting_for)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._renewed_s = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._scope.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            words = f"no byte moved for {self._patience_s:.0f} s"
            raise RemoteError(self.waiting_for, Kind.STALLED, words) from None


class Relay:
    """An incoming body as an outgoing one: exactly ``length`` bytes, or an error.

    aiohttp turns an exception of a body generator into a connection error of the *other* side; the original is kept in
    ``failure``, so that a failed source is not booked on the target.
    """

    def __init__(
        self,
        incoming: AsyncIterator[bytes],
        length: int,
        watch: StallWatch,
        bandwidth: Bandwidth,
        side: Side = Side.SOURCE,
    ) -> None:
        self._incoming = incoming
        self._side = side
        self._length = length
        self._watch = watch
        self._bandwidth = bandwidth
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed = False
        self.seen = 0
        """Bytes that came in so far; progress displays read it."""
        self.failure: RemoteError | None = None

    def hashing(self) -> Relay:
        """Hash what passes; :attr:`md5` then has the result."""
        self._hashed = True
        return self

    @property
    def md5(self) -> str | None:
        """MD5 of the bytes that passed, hex; None unless asked for."""
        return self._md5.hexdigest() if self._hashed else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._passing():
                self._watch.progress(Side.TARGET)
                yield chunk
                self._watch.progress(Side.SOURCE)
        except RemoteError as error:
            self.failure = error
            raise
        self._watch.progress(Side.TARGET)

    async def collect(self) -> bytes:
        """The whole body; for those that fit into the stream's buffer."""
        return b"".join([chunk async for chunk in self._passing()])

    async def drain(self, look: Callable[[bytes], None] | None = None) -> None:
        """Read the body for its hash, and for those who want a look at it."""
        async for chunk in self._passing():
            self._watch.progress(self._side)
            if look is not None:
                look(chunk)

    async def _passing(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._incoming:
                self.seen += len(chunk)
                if self.seen > self._length:
                    words = f"more than the {self._length} bytes asked for arrived"
                    raise RemoteError(self._side, Kind.BAD_ANSWER, words)
                if self._hashed:
                    self._md5.update(chunk)
                if delay_s := self._bandwidth.delay_s(len(chunk)):
                    with self._watch.paused():
                        await asyncio.sleep(delay_s)
                yield chunk
        except FOREIGN as error:
            raise translate(self._side, "get", error) from None
        if self.seen < self._length:
            words = f"the body ended after {self.seen} of {self._length} bytes"
            raise RemoteError(self._side, Kind.TRUNCATED, words)
