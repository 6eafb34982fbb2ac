"""The direct path of a body through this process: from one connection's socket into one buffer and out of it again.

aiohttp opens and keeps the connections, sends the requests and parses the heads of the answers. The bytes of a long body need
none of its parser, its queue of chunks and its wake-ups: once the head of the answer has arrived, a :class:`Pump` takes over
the connection's reading (asyncio's ``Transport.set_protocol``), receives into a buffer that it uses again and again, and
hands the connection back at the body's last byte, so that aiohttp keeps it for the next request.

Invariants: exactly the announced length is received, in its order, so that nothing of a later answer is swallowed; the buffer
is not touched while it may still be read; only the pump starts the reading of its transport; however a pump ends, the
connection is aiohttp's again. The third needs care: a short answer that is read late, when its connection carries the next
one already, resumes the reading of that connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from polyb2.remote.traffic import StallWatch

BUFFER_BYTES = 256 * 1024
"""The buffer of one pump: as much as asyncio reads from a socket, or decrypts, at once."""


class Incoming:
    """The body of an answer, for a ``Relay``: read chunk by chunk, or pumped. Only ``Route.get`` makes one."""

    def __init__(self, response: aiohttp.ClientResponse, watch: StallWatch) -> None:
        self.watch = watch
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    def pump(self, length: int, take: Callable[[memoryview], bool]) -> Pump | None:
        """A pump of the rest of the body, ``length`` bytes; None where only aiohttp can read it.

        That is the case if the answer does not announce its length (then it may come in chunks with heads of their own), or
        if it has arrived, or ended, already.
        """
        connection = self._response.connection
        if self._response.content_length is None or connection is None or connection.transport is None:
            return None
        return Pump(self._response, connection.transport, length, take)


class _Shut:
    """A pumped transport as aiohttp has it meanwhile: the whole of it, but for its reading.

    Whoever reads an earlier answer of the connection to its end resumes the reading of the transport that its protocol has.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any attribute
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        """Nothing: the pump pauses."""

    def resume_reading(self) -> None:
        """Nothing: the pump resumes."""


class Pump(asyncio.BufferedProtocol):
    """Receives ``length`` bytes; ``take`` gets each filling and says whether the next may follow at once.

    A context manager: within it the connection is the pump's.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: asyncio.Transport,
        length: int,
        take: Callable[[memoryview], bool],
    ) -> None:
        self.left = length
        """Bytes still to come."""
        self._response = response
        self._content = response.content
        self._transport = transport
        self._owner = cast("ResponseHandler", transport.get_protocol())
        self._shut = cast("asyncio.Transport", _Shut(transport))
        self._take = take
        self._arrived = b""
        self._is_mine = False
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._standing: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        # Bytes that aiohttp has received already; none can arrive between this and the change of hands.
        self._arrived = b"".join(iter(self._content.read_nowait, b""))
        self._is_mine = self._response.connection is not None
        if self._is_mine:
            self._transport.pause_reading()
            self._transport.set_protocol(self)
            self._owner.transport = self._shut
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_mine:
            return
        if self._failure is None:
            self._transport.set_protocol(self._owner)
        if self._owner.transport is self._shut:
            self._owner.transport = self._transport
        if not self.left:
            # aiohttp did not see the body pass: tell it that the answer is complete and the connection free.
            self._content.feed_eof()

    async def flow(self) -> None:
        """Receive bytes until ``take`` returns False, or all have arrived.

        Raises:
            ConnectionError: the connection ended before that.
        """
        if self._failure is not None:
            raise self._failure
        if self._arrived and not self._handed_over():
            return
        if not self._is_mine:
            raise ConnectionResetError("the body ended too early")
        self._standing = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            await self._standing
        finally:
            self._transport.pause_reading()
            self._standing = None

    def _handed_over(self) -> bool:
        """Hand over the bytes that arrived before the pump; tell if more may follow at once."""
        arrived, self._arrived = memoryview(self._arrived), b""
        self.left -= len(arrived)
        return self._take(arrived) and self.left > 0

    # -- asyncio's side -----------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        if self._standing is None or self._standing.done():
            # asyncio ends the connection. What came unasked would overtake what arrived before it, or overwrite the buffer.
            raise RuntimeError("the reading of a pumped connection was resumed by something else")
        return self._view if self.left >= BUFFER_BYTES else self._view[: self.left]

    def buffer_updated(self, nbytes: int) -> None:
        self.left -= nbytes
        if not (self._take(self._view[:nbytes]) and self.left):
            self._transport.pause_reading()
            self._wake(None)

    def eof_received(self) -> None:
        self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._failure = exc or ConnectionResetError("the connection ended within the body")
        self._owner.connection_lost(exc)
        self._wake(self._failure)

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()

    def _wake(self, failure: BaseException | None) -> None:
        if self._standing is None or self._standing.done():
            return
        if failure is None:
            self._standing.set_result(None)
        else:
            self._standing.set_exception(failure)
