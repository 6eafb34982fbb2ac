"""The connectors of both HTTP stacks: the authorities that they trust, and a bound on interim answers.

The authorities are the system's, or those of ``SSL_CERT_FILE``. Left alone, botocore's stack reads a bundle of its
own for each client, and checks no certificate at all through a proxy. Invariants: they are read once, and only if an
endpoint or its proxy speaks TLS; each connector gets them from here.

Interim answers (100 Continue, 103 Early Hints) are skipped, up to a limit: aiohttp parses and keeps each of them before the
waiting task gets its turn, so a server that sends nothing else would block the event loop for many seconds, and take hundreds
of megabytes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage
from botocore.httpsession import ProxyConfiguration

from polyb2 import descriptors
from polyb2.core.errors import UsageError
from polyb2.remote.control import exchange

if TYPE_CHECKING:
    from aiobotocore.awsrequest import AioAWSResponse
    from botocore.awsrequest import AWSPreparedRequest

_STRICT = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN if sys.version_info >= (3, 13) else 0
"""The flags of the standard library's own default for a client."""
INTERIM_MAX = 100
"""Unread answers on one connection, which carries one request at a time."""


def speaks_tls(*urls: object) -> bool:
    """Tell if an endpoint or its proxy speaks TLS; None for no proxy."""
    return any(str(url).lower().startswith("https:") for url in urls)


def trusted(*urls: object) -> ssl.SSLContext | bool:
    """The value of a connector's ``ssl`` argument for these."""
    return authorities() if speaks_tls(*urls) else True


@cache
def authorities() -> ssl.SSLContext:
    """The context that server certificates are checked against, shared by all connections.

    A variable that is empty, as an unset one is in a Compose file, counts as not set; OpenSSL would read nothing at all.

    Raises:
        UsageError: the file that ``SSL_CERT_FILE`` names has none; OpenSSL would ignore it silently.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if os.environ.get(name) == "":
            del os.environ[name]
    if named := os.environ.get("SSL_CERT_FILE"):
        _check_bundle(named)
    # Not create_default_context(): it writes the keys of each session to SSLKEYLOGFILE, and fails where it cannot.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= _STRICT
    context.load_default_certs()
    context.set_alpn_protocols(("http/1.1",))
    return context


def _check_bundle(named: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(Path(named))
    except ssl.SSLError:
        raise UsageError(f"SSL_CERT_FILE names {named}, which holds no certificates in PEM form") from None
    except OSError as error:
        if own := descriptors.words(error):
            raise UsageError(own) from None
        words = f"SSL_CERT_FILE names {named}, which cannot be read ({error.strerror})"
        raise UsageError(f"{words}: name a bundle of CA certificates, or unset it") from None


class ControlSession(AIOHTTPSession):
    """The connections of a control client; its ``verify`` says whether they speak TLS."""

    _verify: bool
    _max_pool_connections: int
    _connector_args: dict[str, Any]
    _proxy_config: ProxyConfiguration
    _get_session: Callable[[str | None], Awaitable[aiohttp.ClientSession]]

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:  # noqa: ARG002 - the parent's signature
        allowed = authorities() if self._verify else True
        return bounded(aiohttp.TCPConnector(limit=self._max_pool_connections, ssl=allowed, **self._connector_args))

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:  # type: ignore[override]  # the stubs' are others
        """Send a control call; nothing is followed, and the answer is bounded and checked."""
        proxy = self._proxy_config.proxy_url_for(request.url)
        headers = self._proxy_config.proxy_headers_for(request.url)
        return await exchange(await self._get_session(proxy), request, proxy, headers)


class _Handler(ResponseHandler):
    """A connection that is dropped when more answers arrive than were requested."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self._buffer) > INTERIM_MAX:
            self._buffer.clear()
            self.close()  # clears an exception that is set before
            self.set_exception(BadHttpMessage(f"more than {INTERIM_MAX} interim answers"))


def bounded(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Limit the number of unread answers on the connections of a connector."""
    handler: type[ResponseHandler] = _Handler
    connector._factory = partial(handler, loop=asyncio.get_running_loop())  # noqa: SLF001 - there is no other way in
    return connector
