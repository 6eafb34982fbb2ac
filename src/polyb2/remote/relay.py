"""A body on its way from one side to the other: counted, hashed if requested, limited by bandwidth.

A long body takes the direct path (``remote/pump.py``): one buffer a transfer, and the sockets' own. A short one comes in
aiohttp's chunks; it may buffer twice its 256 KiB read buffer. Its ``StallWatch`` checks that it moves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.classify import FOREIGN, translate
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.pump import BUFFER_BYTES, Incoming, Pump
from polyb2.remote.traffic import StallWatch

Look = Callable[[bytes | memoryview], None]
"""Called with the bytes that pass; a view is valid only during the call."""


class Relay:
    """An incoming body as an outgoing one: exactly ``length`` bytes, or an error.

    aiohttp turns an exception of a body's writer into a connection error of the *other* side; the original is kept in
    ``failure``, so that a failure of the source is not attributed to the target.
    """

    def __init__(
        self,
        incoming: AsyncIterable[bytes],
        length: int,
        bandwidth: Bandwidth,
        side: Side = Side.SOURCE,
    ) -> None:
        self.length = length
        self.watch = incoming.watch if isinstance(incoming, Incoming) else None
        """The watch of the request that brings the body; None for a body that is made here."""
        self._incoming = incoming
        self._side = side
        self._bandwidth = bandwidth
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed = False
        self._ahead_bytes = 0
        """Bytes that are booked and have not come in: what is read next is paid for before it is read."""
        self._owed_bytes = 0.0
        self.seen = 0
        """Bytes received so far; progress displays read it."""
        self.failure: RemoteError | None = None
        self.collected: bytes | None = None
        if self.watch is not None:
            self.watch.carries(self)

    def hashing(self) -> Relay:
        """Hash the bytes that pass; :attr:`md5` then has the result."""
        self._hashed = True
        return self

    @property
    def md5(self) -> str | None:
        """MD5 of the bytes that passed, hex; None unless requested."""
        return self._md5.hexdigest() if self._hashed else None

    def as_payload(self, watch: StallWatch) -> aiohttp.Payload:
        """The body of the PUT that ``watch`` watches."""
        if self.collected is not None:
            return AtHand(self.collected, watch)
        self.watch = watch
        watch.carries(self)
        return _Payload(self)

    async def write_to(self, writer: StreamWriter) -> None:
        """Pass the body on to a request of the other side.

        Raises:
            RemoteError: the side that sends failed; also kept in ``failure``.
            OSError: the side that receives failed.
        """
        try:
            writer.send_headers()
            sink = writer.transport
            if self.watch is not None:
                self.watch.sends(sink)
            pump = self._pump(partial(self._pass_on, sink)) if sink else None
            if pump is None or sink is None:
                await self._write_chunks(writer)
            else:
                with pump, _nothing_buffered(sink):
                    await self._pump_out(pump, sink, writer)
        except RemoteError as error:
            self.failure = error
            raise

    async def collect(self) -> bytes:
        """Read the whole body, which a PUT of this relay then sends in one piece; for bodies that fit into the buffer."""
        self.collected = b"".join([chunk async for chunk in self._chunks()])
        return self.collected

    async def drain(self, look: Look | None = None) -> None:
        """Read the body to its end, for its hash or for a callback."""
        pump = self._pump(partial(self._see, look))
        if pump is None:
            async for chunk in self._chunks():
                if look is not None:
                    look(chunk)
            return
        with pump:
            while pump.left:
                await self._flow(pump)

    # -- the aiohttp path: its chunks ---------------------------------------------------------------------------------

    async def _write_chunks(self, writer: StreamWriter) -> None:
        async for chunk in self._chunks():
            await writer.write(chunk)

    async def _chunks(self) -> AsyncIterator[bytes]:
        self._book(0)
        await self._rest()
        try:
            async for chunk in self._incoming:
                self._note(chunk)
                if self.seen > self.length:
                    words = f"more than the {self.length} bytes asked for arrived"
                    raise RemoteError(self._side, Kind.BAD_ANSWER, words)
                yield chunk
                await self._rest()
        except FOREIGN as error:
            raise translate(self._side, "get", error) from None
        if self.seen < self.length:
            raise self._truncated()

    # -- the direct path: past aiohttp --------------------------------------------------------------------------------

    def _pump(self, take: Callable[[memoryview], bool]) -> Pump | None:
        if not isinstance(self._incoming, Incoming) or self.length <= BUFFER_BYTES:
            return None
        self._book(0)
        return self._incoming.pump(self.length, take)

    async def _pump_out(self, pump: Pump, sink: asyncio.Transport, writer: StreamWriter) -> None:
        while pump.left:
            await self._flow(pump)
            if sink.is_closing():
                raise ConnectionResetError("the connection ended while the body was being sent")
            # The transport may read the buffer until it has written everything out.
            await writer.drain()

    async def _flow(self, pump: Pump) -> None:
        """Let bytes come in while nothing holds them up."""
        await self._rest()
        try:
            await pump.flow()
        except ConnectionResetError:
            raise self._truncated() from None
        except FOREIGN as error:
            raise translate(self._side, "get", error) from None

    def _pass_on(self, sink: asyncio.Transport, view: memoryview) -> bool:
        self._note(view)
        sink.write(view)
        is_backed_up = sink.is_closing() or sink.get_write_buffer_size() > 0
        return not (is_backed_up or self._owed_bytes)

    def _see(self, look: Look | None, view: memoryview) -> bool:
        self._note(view)
        if look is not None:
            look(view)
        return not self._owed_bytes

    # -- both ---------------------------------------------------------------------------------------------------------

    def _note(self, data: bytes | memoryview) -> None:
        self.seen += len(data)
        if self._hashed:
            self._md5.update(data)
        self._book(len(data))

    def _book(self, passed: int) -> None:
        """Book the bytes that passed, and those that are read next, with the bandwidth limit; each once."""
        ahead = max(0, min(BUFFER_BYTES, self.length - self.seen))
        self._owed_bytes = self._bandwidth.book(passed + ahead - self._ahead_bytes)
        self._ahead_bytes = ahead

    async def _rest(self) -> None:
        """Wait, before more is read, as long as the bandwidth limit requires."""
        if self._owed_bytes and self.seen < self.length:
            with nullcontext() if self.watch is None else self.watch.paused():
                await self._bandwidth.rest(self._owed_bytes)

    def _truncated(self) -> RemoteError:
        words = f"the body ended after {self.seen} of {self.length} bytes"
        return RemoteError(self._side, Kind.TRUNCATED, words)


class _Payload(aiohttp.Payload):
    """A relay in the form that aiohttp sends. It can be sent once and says so, or aiohttp would retry by itself."""

    _autoclose = True
    _value: Relay

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        raise TypeError("a body that streams has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._consumed = True
        await self._value.write_to(cast("StreamWriter", writer))

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002
        await self.write(writer)


class AtHand(aiohttp.BytesPayload):
    """A whole body whose way through the socket is watched."""

    def __init__(self, value: bytes, watch: StallWatch) -> None:
        super().__init__(value)
        self._watch = watch

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._watch.sends(cast("StreamWriter", writer).transport, at_once=True)
        await super().write_with_length(writer, content_length)


@contextmanager
def _nothing_buffered(sink: asyncio.Transport) -> Iterator[None]:
    """Make writers wait until the transport has written everything out: the buffer that it was given is reused."""
    # asyncio's TLS transport pauses writers at the limit, the plain one above it.
    sink.set_write_buffer_limits(high=1 if sink.get_extra_info("ssl_object") else 0, low=0)
    try:
        yield
    finally:
        sink.set_write_buffer_limits()
