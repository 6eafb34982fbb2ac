"""The connections of the process: one aioboto3 client an endpoint for control calls, two aiohttp sessions for the bytes.

``retries.py`` counts all retries, so botocore's are off. B2 refused checksum headers until July 2025, so none are sent
that an operation does not require. Idle connections are kept for less than the 5 s after which B2 closes them.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from yarl import URL

from polyb2 import __version__
from polyb2.remote.connectors import ControlSession, bounded, speaks_tls, trusted
from polyb2.remote.isolated import IsolatedSession
from polyb2.remote.parsing import Parsers
from polyb2.remote.proxies import proxy_of

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

KEEPALIVE_S = 4.0
CONNECT_TIMEOUT_S = 15.0
READ_BUFFER_BYTES = 256 * 1024
CONTROL_READ_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """An S3 endpoint, a bucket there, and the keys to it; never printed."""

    endpoint: str
    bucket: str
    region: str
    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Account({self.endpoint}, {self.bucket})"


@asynccontextmanager
async def open_client(account: Account, *, read_timeout_s: float = CONTROL_READ_TIMEOUT_S) -> AsyncIterator[S3Client]:
    """The control client of an account."""
    proxy = proxy_of(account.endpoint)
    config = AioConfig(
        signature_version="s3v4",
        # "regional": otherwise botocore would use a global AWS host in the region us-east-1.
        s3={"addressing_style": "path", "us_east_1_regional_endpoint": "regional"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        max_pool_connections=32,
        connector_args={"keepalive_timeout": KEEPALIVE_S},
        user_agent_extra=f"polyb2/{__version__}",
        http_session_cls=ControlSession,
        # Passed even if there is none, or botocore would look for one itself.
        proxies={urlsplit(account.endpoint).scheme: str(proxy)} if proxy is not None else {},
    )
    async with _boto_session().client(
        "s3",
        endpoint_url=account.endpoint,
        region_name=account.region,
        aws_access_key_id=account.key_id,
        aws_secret_access_key=account.secret,
        verify=speaks_tls(account.endpoint, proxy),
        config=config,
    ) as client:
        yield client


class _Session(aioboto3.Session):
    """A session without boto3's own transfers, which polyb2 replaces: loading them takes 44 modules and 1.5 MB."""

    def _register_default_handlers(self) -> None: ...


@cache
def _boto_session() -> _Session:
    """The one session of the process: it parses botocore's service descriptions, which takes a tenth of a second."""
    session = IsolatedSession()
    session.register_component("response_parser_factory", Parsers())
    return _Session(botocore_session=session)


class Http:
    """The sessions of one side's data path: one that reuses connections, one that opens a new one for each retry."""

    def __init__(self, endpoint: str) -> None:
        proxy = proxy_of(endpoint)
        self._reusing = open_session(endpoint, proxy, keepalive_timeout=KEEPALIVE_S)
        self._fresh = open_session(endpoint, proxy, force_close=True)

    def session(self, *, fresh: bool) -> aiohttp.ClientSession:
        """The session for a request; B2 asks that a part that met a 503 is sent again on a new connection."""
        return self._fresh if fresh else self._reusing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._reusing.close()
        await self._fresh.close()


def open_session(url: str, proxy: URL | None, **connecting: Any) -> aiohttp.ClientSession:  # noqa: ANN401 - the connector's
    """Open a session for the host of one URL, through its proxy: nothing else in the program makes a session."""
    with warnings.catch_warnings():
        # aiohttp would put the login into a header of each request, or into the proxy's URL, which its errors show.
        warnings.simplefilter("ignore", DeprecationWarning)
        login = (
            aiohttp.BasicAuth(proxy.user, proxy.password or "", "utf-8") if proxy is not None and proxy.user else None
        )
        connector = bounded(aiohttp.TCPConnector(limit=0, ssl=trusted(url, proxy), **connecting))
        return _session(connector, proxy, login)


def _session(
    connector: aiohttp.TCPConnector, proxy: URL | None, login: aiohttp.BasicAuth | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        proxy=proxy.with_user(None) if proxy is not None else None,
        proxy_auth=login,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        headers={"Accept-Encoding": "identity", "User-Agent": f"polyb2/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=None),
    )
