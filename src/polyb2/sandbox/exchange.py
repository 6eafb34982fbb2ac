"""A request and its reply, as the handlers make them and the faults bend them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web

WRITE_BYTES = 512 * 1024
XML = "application/xml"


class DroppedError(Exception):
    """The connection is cut: no more is sent."""


class S3Error(Exception):
    """An error that is answered as S3 does."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


Reader = Callable[[int, int], bytes]


@dataclass(slots=True)
class Reply:
    """An answer before it is sent.

    Attributes:
        status: the HTTP status.
        headers: without Content-Length, which follows from ``length``.
        body: the whole body, or a reader of (offset, length) for ``length`` bytes.
        length: bytes of the body.
        announced: the Content-Length that is sent; None sends none.
        cut_after: end the body after that many bytes.
        stall_after: stop sending after that many bytes until the client goes away.
        bytes_per_s: send slowly.
        flip_at: flip a bit of the byte at this place of the body.
        extra: bytes after the body.
        reset: end the connection with a reset instead of an orderly close where the body is cut.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Reader = b""
    length: int = 0
    announced: int | None = -1
    cut_after: int | None = None
    stall_after: int | None = None
    bytes_per_s: float = 0.0
    flip_at: int | None = None
    extra: bytes = b""
    reset: bool = False
    close: bool = False

    def chunks(self) -> Iterator[bytes]:
        """The body as it is sent."""
        end = self.length if self.cut_after is None else min(self.length, self.cut_after)
        if self.stall_after is not None:
            end = min(end, self.stall_after)
        for start in range(0, end, WRITE_BYTES):
            count = min(WRITE_BYTES, end - start)
            chunk = self.body[start : start + count] if isinstance(self.body, bytes) else self.body(start, count)
            if self.flip_at is not None and start <= self.flip_at < start + count:
                chunk = flipped(chunk, self.flip_at - start)
            yield chunk
        if end == self.length and self.extra:
            yield self.extra


@dataclass(slots=True)
class Exchange:
    """One request, and the marks that faults left on it."""

    operation: str
    key: str
    request: web.BaseRequest
    query: Mapping[str, str]
    part: int | None = None
    flip_stored: bool = False
    bytes_in: int = 0
    reset_in_body_after: int | None = None
    stall_in_body_after: int | None = None

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes."""
        async for chunk in self.request.content.iter_any():
            self.bytes_in += len(chunk)
            if self.reset_in_body_after is not None and self.bytes_in >= self.reset_in_body_after:
                raise DroppedError
            if self.stall_in_body_after is not None and self.bytes_in >= self.stall_in_body_after:
                await until_gone(self.request)
            yield chunk

    async def whole_body(self) -> bytes:
        return b"".join([chunk async for chunk in self.body()])


@dataclass(frozen=True, slots=True)
class Record:
    """A request that was answered, for tests to count; status 0 where the connection was cut."""

    operation: str
    key: str
    part: int | None
    status: int
    bytes_in: int
    range: str
    when_s: float


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def xml_reply(text: str, status: int = 200) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Reply(status, {"Content-Type": XML}, body, len(body))


def error_reply(error: S3Error) -> Reply:
    return xml_reply(
        f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message or error.code)}</Message></Error>",
        error.status,
    )


def http_date(epoch_s: float | None = None) -> str:
    return formatdate(time.time() if epoch_s is None else epoch_s, usegmt=True)


async def until_gone(request: web.BaseRequest) -> None:
    """Wait, without a byte, until the client drops the connection; then cut it."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # aiohttp offers no event for it
    raise DroppedError


async def send(exchange: Exchange, reply: Reply) -> web.StreamResponse:
    """Write a reply as the faults changed it.

    Raises:
        DroppedError: the reply was cut.
    """
    request = exchange.request
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    announced = reply.length + len(reply.extra) if reply.announced == -1 else reply.announced
    if announced is not None:
        response.content_length = announced
    if reply.close:
        response.force_close()
    await response.prepare(request)
    if request.method == "HEAD":
        await response.write_eof()
        return response
    for chunk in reply.chunks():
        await response.write(chunk)
        if reply.bytes_per_s:
            await asyncio.sleep(len(chunk) / reply.bytes_per_s)
    if reply.stall_after is not None:
        await until_gone(request)
    if reply.cut_after is not None and reply.cut_after < reply.length and announced not in {None, reply.cut_after}:
        if not reply.reset and request.transport is not None:
            request.transport.close()
        raise DroppedError
    await response.write_eof()
    return response
