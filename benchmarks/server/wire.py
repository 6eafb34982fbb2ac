"""HTTP/1.1 over a blocking socket, at the least cost a byte: large reads into one buffer, writes straight from the tile.

A thread a connection: all that takes long (system calls, TLS) happens outside the interpreter's lock.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

BUFFER_BYTES = 256 * 1024
_REASONS = {100: "Continue", 200: "OK", 204: "No Content", 206: "Partial Content", 503: "Slow Down"}


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", 0))


@dataclass(slots=True)
class Answer:
    """An answer; ``slices`` of ``length`` bytes are its body where ``body`` is empty."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    slices: Iterable[memoryview] = ()
    length: int = 0
    close: bool = False


class Wire:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._secured = isinstance(sock, ssl.SSLSocket)
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self.taken_bytes = 0
        """Bytes of bodies that came in so far."""

    def request(self) -> Request | None:
        """The next request; None where the client closed."""
        while (stop := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._to_the_front()
            count = self._sock.recv_into(self._view[self._end :])
            if not count:
                return None
            self._end += count
        head = self._buffer[self._start : stop].decode("latin-1")
        self._start = stop + 4
        return _parsed(head)

    def body(self, length: int) -> Iterator[memoryview]:
        """The ``length`` bytes that follow; each chunk is good until the next is asked for.

        Raises:
            ConnectionError: the client closed before the end.
        """
        while length:
            if self._start == self._end:
                self._start, self._end = 0, self._receive(min(length, BUFFER_BYTES))
            count = min(length, self._end - self._start)
            self._start += count
            length -= count
            self.taken_bytes += count
            yield self._view[self._start - count : self._start]

    def proceed(self) -> None:
        """Tell a client that asked first that its body is welcome."""
        self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, answer: Answer, *, head_only: bool) -> None:
        """Write an answer."""
        length = len(answer.body) or answer.length
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        lines += [f"Content-Length: {length}"] * (answer.status != 204)  # noqa: PLR2004 - which has no body
        lines += ["Connection: close"] * answer.close
        head = "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head_only else answer.body)
        slices = iter(() if head_only else answer.slices)
        if length <= BUFFER_BYTES:
            head += b"".join(slices)
        self._sock.sendall(head)
        for piece in slices:
            self._sock.sendall(piece)

    def _to_the_front(self) -> None:
        """Make room behind what is there."""
        if self._start:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if self._end == BUFFER_BYTES:
            raise ConnectionError("the head of the request does not end")

    def _receive(self, wanted: int) -> int:
        # TLS hands out a record at a time; a plain socket can wait until the buffer is full.
        if self._secured:
            count = self._sock.recv_into(self._view, wanted)
        else:
            count = self._sock.recv_into(self._view, wanted, socket.MSG_WAITALL)
        if not count:
            raise ConnectionError("the body ended early")
        return count


def _parsed(head: str) -> Request:
    first, *rest = head.split("\r\n")
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Request(method, unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers)
