"""The base of both servers: sockets, signatures, faults, a record of every request, and the listing that both answer."""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import socket
import ssl
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from polyb2.sandbox.exchange import (
    DroppedError,
    Exchange,
    Record,
    Reply,
    S3Error,
    error_reply,
    http_date,
    send,
    xml_reply,
)
from polyb2.sandbox.faults import Fault
from polyb2.sandbox.sigv4 import check_signature

RECORDS_MAX = 100_000
READ_BUFFER_BYTES = 1 << 20
_NOT_FOUND = 404
PAGE_KEYS = 1000


class SandboxServer:
    """One S3-like server on loopback; subclasses have a method ``on_<operation>`` for each operation they know.

    Attributes:
        bucket: the only bucket.
        access_key: the key id; its secret is ``secret_key``.
        keys_revoked: answer every request with InvalidAccessKeyId.
        region: the only one that signatures may name; empty takes any.
        host: the address it listens on, of loopback.
        clock_offset_s: seconds by which this server's clock is off.
        requests: the answered requests, newest last.
        in_flight: requests under way.
    """

    def __init__(self, bucket: str, access_key: str, secret_key: str) -> None:
        self.bucket = bucket
        self.access_key = access_key
        self.secret_key = secret_key
        self.keys_revoked = False
        self.region = ""
        self.clock_offset_s = 0.0
        self.requests: deque[Record] = deque(maxlen=RECORDS_MAX)
        self.in_flight = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._scheme = "http"
        self._faults: list[Fault] = []
        self._connections: set[asyncio.BaseTransport] = set()
        self._runner: web.ServerRunner | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> Self:
        """Listen on ``host``; port 0 is a free one."""
        listener = socket.create_server((self.host, port or self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        self._scheme = "https" if tls else "http"
        server = web.Server(self._handle, access_log=None, read_bufsize=READ_BUFFER_BYTES)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, ssl_context=tls, backlog=1024).start()
        return self

    async def stop(self) -> None:
        """Drop every connection and close the port; :meth:`start` opens the same one again."""
        runner, self._runner = self._runner, None
        for transport in tuple(self._connections):
            transport.close()
        if runner is not None:
            await runner.cleanup()

    @property
    def endpoint_url(self) -> str:
        return f"{self._scheme}://{self.host}:{self.port}"

    # -- what tests ask -----------------------------------------------------------------------------------------------

    def inject(self, fault: Fault) -> Fault:
        """Inject a fault into this server; its ``hits`` count the requests it hit."""
        self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        self._faults.clear()

    def count(self, operation: str = "*", key: str = "*") -> int:
        """The number of matching requests that were answered."""
        return sum(operation in {"*", item.operation} and fnmatch.fnmatchcase(item.key, key) for item in self.requests)

    # -- requests -----------------------------------------------------------------------------------------------------

    def operation(self, method: str, key: str, query: dict[str, str]) -> str:
        """The operation that a request asks for."""
        raise S3Error(501, "NotImplemented", f"{method} {key} {sorted(query)}")

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw_path = request.raw_path.partition("?")[0]
        bucket, _, key = unquote(raw_path).removeprefix("/").partition("/")
        query = dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True))
        exchange = Exchange("unknown", key, request, query)
        self.in_flight += 1
        status = 0
        try:
            reply = await self._answer(exchange, bucket)
            reply.headers.setdefault("Date", http_date(time.time() + self.clock_offset_s))
            reply.headers.setdefault("Keep-Alive", "timeout=5")
            if reply.headers.get("Content-Type") != "text/html":
                # Each answer of an S3 service has one; an intermediary's page has none.
                reply.headers.setdefault("x-amz-request-id", f"{len(self.requests):016X}")
            status = reply.status
            return await send(exchange, reply)
        except (DroppedError, ConnectionError, asyncio.IncompleteReadError):
            status = 0
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        finally:
            self.in_flight -= 1
            self.requests.append(
                Record(
                    exchange.operation,
                    key,
                    exchange.part,
                    status,
                    exchange.bytes_in,
                    request.headers.get("Range", ""),
                    time.monotonic(),
                )
            )

    async def _answer(self, exchange: Exchange, bucket: str) -> Reply:
        request = exchange.request
        try:
            exchange.operation = self.operation(request.method, exchange.key, dict(exchange.query))
            number = exchange.query.get("partNumber", "")
            exchange.part = int(number) if number.isdecimal() else None
            self._check_keys(request)
            self._check_bucket(bucket)
            return await self._with_faults(exchange)
        except S3Error as error:
            return error_reply(error)

    def _check_bucket(self, bucket: str) -> None:
        if bucket != self.bucket:
            raise S3Error(_NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist")

    def _check_keys(self, request: web.BaseRequest) -> None:
        if self.keys_revoked:
            raise S3Error(403, "InvalidAccessKeyId", "The key was revoked")
        keys = {self.access_key: self.secret_key}
        region = check_signature(request.method, request.raw_path, request.headers, keys, self.clock_offset_s)
        if self.region not in {"", region}:
            raise S3Error(403, "SignatureDoesNotMatch", f"the region {region!r} is wrong")

    async def _with_faults(self, exchange: Exchange) -> Reply:
        struck = [fault.action for fault in self._faults if fault.strikes(exchange)]
        for action in struck:
            instead = await action.before(exchange)
            if instead is not None:
                return instead
        handler: Callable[[Exchange], Awaitable[Reply]] = getattr(self, f"on_{exchange.operation}")
        try:
            reply = await handler(exchange)
        except S3Error as error:
            reply = error_reply(error)
        for action in struck:
            reply = await action.after(exchange, reply)
        return reply


def list_objects(keys: Sequence[str], query: Mapping[str, str], bucket: str, entry: Callable[[str], str]) -> Reply:
    """A ListObjectsV2 answer.

    Args:
        keys: all keys, sorted.
        query: of the request.
        bucket: its name.
        entry: the XML of a key's facts, without the key.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = min(int(query.get("max-keys", PAGE_KEYS)), PAGE_KEYS)
    by_url = query.get("encoding-type") == "url"
    encode = (lambda text: quote(text, safe="/~")) if by_url else escape
    token = query.get("continuation-token")
    after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
    items: list[str] = []
    index = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    last = ""
    while index < len(keys) and keys[index].startswith(prefix) and len(items) < limit:
        key = keys[index]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            items.append(f"<Contents><Key>{encode(key)}</Key>{entry(key)}</Contents>")
            last, index = key, index + 1
        else:
            folder = key[: cut + len(delimiter)]
            items.append(f"<CommonPrefixes><Prefix>{encode(folder)}</Prefix></CommonPrefixes>")
            last = folder + "\U0010ffff"
            index = bisect_left(keys, last)
    truncated = index < len(keys) and keys[index].startswith(prefix) and limit > 0
    more = f"<NextContinuationToken>{base64.urlsafe_b64encode(last.encode()).decode()}</NextContinuationToken>"
    return xml_reply(
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
        f"<Prefix>{encode(prefix)}</Prefix><KeyCount>{len(items)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if by_url else ''}"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{more if truncated else ''}"
        f"{''.join(items)}</ListBucketResult>"
    )
