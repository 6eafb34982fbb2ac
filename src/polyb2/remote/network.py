"""The way to an endpoint, step by step: name, port, certificate, clock. For the preflight only; a run makes no such steps."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.clients import Http, proxy_of
from polyb2.remote.translate import FOREIGN, translate
from polyb2.remote.trust import authorities

STEP_TIMEOUT_S = 10.0
_PORTS = {"https": 443, "http": 80}


class Endpoint:
    """The host and port of a URL, asked step by step; each step raises ``RemoteError`` (``unreachable``)."""

    def __init__(self, side: Side, url: str, within_s: float = STEP_TIMEOUT_S) -> None:
        """A step is answered ``within_s``, or it failed."""
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or _PORTS[parts.scheme]
        self.is_tls = parts.scheme == "https"
        self._side = side
        self._within_s = min(within_s, STEP_TIMEOUT_S)

    @property
    def proxy(self) -> str | None:
        """The host of the proxy that the environment puts in between."""
        proxy = proxy_of(self.url)
        return proxy.host if proxy is not None else None

    async def addresses(self) -> list[str]:
        """What the name resolves to."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._within_s):
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError) as error:
            raise self._unreachable(f"the name {self.host} does not resolve", error) from None
        return list(dict.fromkeys(str(item[4][0]) for item in found))

    async def connect(self) -> float:
        """Open a connection; how long that took, in seconds."""
        began_s = asyncio.get_running_loop().time()
        await self._open(None, f"no connection to {self.host} port {self.port}")
        return asyncio.get_running_loop().time() - began_s

    async def handshake(self) -> str:
        """Check the certificate against ``SSL_CERT_FILE`` or the system's; the TLS version."""
        return await self._open(authorities(), f"no trusted TLS connection to {self.host} port {self.port}")

    async def clock_offset_s(self) -> float | None:
        """By how many seconds the service's clock is ahead of this machine's; None where it does not tell."""
        try:
            async with (
                asyncio.timeout(self._within_s),
                Http(self.url) as http,
                http.session(fresh=True).head(self.url) as answer,
            ):
                date = answer.headers.get("Date", "")
        except FOREIGN as error:
            raise translate(self._side, "head", error) from None
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            theirs = parsedate_to_datetime(date)
            return (theirs.replace(tzinfo=theirs.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return None

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
        return RemoteError(self._side, Kind.UNREACHABLE, f"{what}: {error}")
