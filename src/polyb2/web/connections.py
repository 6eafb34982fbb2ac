"""The connections of the page: few at once, none that waits for ever, and no trouble with them is the engine's.

Invariants: at most :data:`CONNECTIONS_MAX` sockets, and never more than a fraction of the descriptors that the process may
have; a connection that sends no whole request, or does not take its answer, is ended after some seconds. Where all are
taken, the oldest that has not asked anything yet makes room: one that asks is answered at once, however many are silent.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any, cast

log = logging.getLogger(__name__)
CONNECTIONS_MAX = 64
SHARE = 8
"""One descriptor of so many may be the page's."""
FIRST_REQUEST_S = 5.0
ANSWER_S = 30.0
"""From one request to the end of its answer and to the next request."""
ACCEPT_AGAIN_S = 1.0
TOLD_AGAIN_S = 600.0
BACKLOG = 128
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""What a name such as localhost also leads to, and this machine does not have: IPv6, most often."""


def connections_max() -> int:
    """How many connections the process can spare."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, max(2, soft // SHARE))


class Connections:
    """Accepts connections for a protocol and watches over them."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._make_protocol = make_protocol
        self._most = connections_max()
        self._open: dict[asyncio.BaseTransport, _Watched] = {}
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    async def listen(self, host: str, port: int) -> None:
        """Begin to accept on the addresses of ``host`` that this machine has.

        Raises:
            OSError: there is none, or the port is taken.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                self._listeners.append(_listener(family, address))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if missing is not None and not self._listeners:
            raise missing
        self._accepting = [loop.create_task(self._accept(listener), name="page") for listener in self._listeners]

    async def close(self) -> None:
        """Accept no more; what is open is the protocol's to end."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a whole request came in."""
        if transport is not None and (watched := self._open.get(transport)) is not None:
            watched.asked()

    def opened(self, watched: _Watched, transport: asyncio.BaseTransport) -> None:
        self._open[transport] = watched

    def lost(self, transport: asyncio.BaseTransport | None) -> None:
        if transport is not None:
            self._open.pop(transport, None)

    async def _accept(self, listener: socket.socket) -> None:
        loop, told_s = asyncio.get_running_loop(), -TOLD_AGAIN_S
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # No descriptor is left, most likely. It stays so for a while, and is not worth a line each time.
                if loop.time() - told_s >= TOLD_AGAIN_S:
                    log.warning("the page takes no connections just now: %s; it goes on by itself", error.strerror)
                    told_s = loop.time()
                await asyncio.sleep(ACCEPT_AGAIN_S)
            else:
                await self._take(accepted)

    async def _take(self, accepted: socket.socket) -> None:
        if len(self._open) >= self._most and not self._make_room():
            accepted.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: _Watched(self), accepted)
        except OSError:
            accepted.close()

    def _make_room(self) -> bool:
        silent = next((watched for watched in self._open.values() if not watched.has_asked), None)
        if silent is not None:
            silent.end()
        return silent is not None

    def make_protocol(self) -> asyncio.Protocol:
        return self._make_protocol()


def _listener(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:  # raised again
        listener.close()
        raise
    return listener


class _Watched(asyncio.Protocol):
    """A connection that hands everything to the protocol that answers, and ends when nothing comes of it."""

    def __init__(self, connections: Connections) -> None:
        self.has_asked = False
        self._connections = connections
        self._answering = connections.make_protocol()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def asked(self) -> None:
        self.has_asked = True
        self._end_after(ANSWER_S)

    def end(self) -> None:
        if self._transport is not None:
            self._connections.lost(self._transport)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.opened(self, transport)
        self._end_after(FIRST_REQUEST_S)
        self._answering.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._connections.lost(self._transport)
        self._answering.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._answering.data_received(data)

    def eof_received(self) -> bool | None:
        return self._answering.eof_received()

    def pause_writing(self) -> None:
        self._answering.pause_writing()

    def resume_writing(self) -> None:
        self._answering.resume_writing()

    def _end_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)
