"""The way to an endpoint, step by step: name, port, certificate; and its clock. For the preflight only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

from polyb2 import descriptors
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.meters import Meters
from polyb2.remote.classify import FOREIGN
from polyb2.remote.connectors import authorities
from polyb2.remote.proxies import proxy_of

T = TypeVar("T")
STEP_TIMEOUT_S = 10.0
_PORTS = {"https": 443, "http": 80}


class AnswerClock(Meters):
    """Meters that also note the service's clock, from the Date of its answers and refusals.

    No request is made for it: a service need not answer a request for its root (Ceph RGW sends stray bytes after it).

    Attributes:
        offset_s: seconds by which the service's clock is ahead of this machine's; None until an answer tells.
        answered: an answer came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset_s: float | None = None
        self.answered = False

    async def answer(self, side: Side, operation: str, request: Awaitable[T]) -> T:
        try:
            answer = await super().answer(side, operation, request)
        except FOREIGN as error:
            self._note(getattr(error, "response", None) or error)
            raise
        self._note(answer)
        return answer

    def _note(self, answer: object) -> None:
        headers = _headers_of(answer)
        if headers is None:
            return
        self.answered = True
        date = next((str(value) for name, value in headers.items() if str(name).lower() == "date"), "")
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            theirs = parsedate_to_datetime(date)
            self.offset_s = (theirs.replace(tzinfo=theirs.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _headers_of(answer: object) -> Mapping[str, object] | None:
    """The headers of a parsed answer, or of an error that holds one; None where there was no answer."""
    if isinstance(answer, Mapping):
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        headers = getattr(answer, "headers", None)
    return headers if isinstance(headers, Mapping) else None


class Endpoint:
    """The host and port of a URL, checked step by step; each step raises ``RemoteError`` (``unreachable``)."""

    def __init__(self, side: Side, url: str, within_s: float = STEP_TIMEOUT_S) -> None:
        """A step without an answer after ``within_s`` has failed."""
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or _PORTS[parts.scheme]
        self.is_tls = parts.scheme == "https"
        self._side = side
        self._within_s = min(within_s, STEP_TIMEOUT_S)

    @property
    def proxy(self) -> str | None:
        """The host of the proxy that the environment configures."""
        proxy = proxy_of(self.url)
        return proxy.host if proxy is not None else None

    async def addresses(self) -> list[str]:
        """The addresses that the name resolves to."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._within_s):
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError) as error:
            raise self._unreachable(f"the name {self.host} does not resolve", error) from None
        return list(dict.fromkeys(str(item[4][0]) for item in found))

    async def connect(self) -> float:
        """Open a connection; return the seconds that it took."""
        began_s = asyncio.get_running_loop().time()
        await self._open(None, f"no connection to {self.host} port {self.port}")
        return asyncio.get_running_loop().time() - began_s

    async def handshake(self) -> str:
        """Check the certificate against ``SSL_CERT_FILE`` or the system's; return the TLS version."""
        return await self._open(authorities(), f"no trusted TLS connection to {self.host} port {self.port}")

    async def _open(self, context: ssl.SSLContext | None, what: str) -> str:
        try:
            async with asyncio.timeout(self._within_s):
                _, writer = await asyncio.open_connection(self.host, self.port, ssl=context)
        except (OSError, TimeoutError) as error:
            raise self._unreachable(what, error) from None
        secured = writer.get_extra_info("ssl_object")
        version = str(secured.version()) if secured else ""
        writer.transport.abort()
        return version

    def _unreachable(self, what: str, error: Exception) -> RemoteError:
        if isinstance(error, TimeoutError):
            return RemoteError(self._side, Kind.UNREACHABLE, f"{what}: no answer within {self._within_s:.3g} s")
        if words := descriptors.problem(error):
            return RemoteError(self._side, Kind.NO_OPEN_FILES, f"{what}: {words}")
        return RemoteError(self._side, Kind.UNREACHABLE, f"{what}: {error}")
