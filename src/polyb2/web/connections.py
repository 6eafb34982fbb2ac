"""The connections of the page: few at once, each with a deadline, and none of their trouble reaches the engine.

Invariants: at most :data:`CONNECTIONS_MAX` sockets, and never more than a fraction of the descriptors that the process may
have; a connection that sends no whole request, or does not take its answer, is closed after some seconds. Where all are
in use, the oldest without a request makes room: a request is answered at once, however many connections are silent.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

log = logging.getLogger(__name__)
CONNECTIONS_MAX = 64
SHARE = 8
"""One in so many descriptors may be the page's."""
BACKLOG = 128
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""Errors of an address that this machine does not have; localhost often names IPv6 too, where there is none."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: to the first whole request; to an answer's end and the next request; between tries to accept, and warnings."""

    first_request_s: float = 5.0
    answer_s: float = 30.0
    accept_again_s: float = 1.0
    warn_again_s: float = 600.0


def connections_max(descriptors: int | None = None) -> int:
    """The connections that a process with so many descriptors can spare; None: this process."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, max(2, soft // SHARE))


class Connections:
    """Accepts connections for a protocol and closes those that are over their time."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol], timing: Timing) -> None:
        self.make_protocol = make_protocol
        self.timing = timing
        self._most = connections_max()
        self.open: dict[asyncio.BaseTransport, _Watched] = {}
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
        """Stop accepting; the protocol closes what is open."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a whole request was received."""
        if transport is not None and (watched := self.open.get(transport)) is not None:
            watched.asked()

    async def _accept(self, listener: socket.socket) -> None:
        loop, warned_s = asyncio.get_running_loop(), -self.timing.warn_again_s
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # Most likely no descriptor is left. That lasts for a while, and is not worth a line each time.
                if loop.time() - warned_s >= self.timing.warn_again_s:
                    log.warning("the page takes no connections just now: %s; it goes on by itself", error.strerror)
                    warned_s = loop.time()
                await asyncio.sleep(self.timing.accept_again_s)
            else:
                await self._take(accepted)

    async def _take(self, accepted: socket.socket) -> None:
        if len(self.open) >= self._most and not self._make_room():
            accepted.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: _Watched(self), accepted)
        except OSError:
            accepted.close()

    def _make_room(self) -> bool:
        silent = next((watched for watched in self.open.values() if not watched.has_asked), None)
        if silent is not None:
            silent.end()
        return silent is not None


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
    """A connection that passes everything to the protocol that answers, and is closed at its deadline."""

    def __init__(self, connections: Connections) -> None:
        self.has_asked = False
        self._connections = connections
        self._answering = connections.make_protocol()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def asked(self) -> None:
        self.has_asked = True
        self._end_after(self._connections.timing.answer_s)

    def end(self) -> None:
        if self._transport is not None:
            self._connections.open.pop(self._transport, None)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.open[transport] = self
        self._end_after(self._connections.timing.first_request_s)
        self._answering.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._connections.open.pop(self._transport, None)
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
