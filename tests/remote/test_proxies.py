"""The proxy of the environment: as curl reads it, none for loopback, its login a secret, and both stacks by one reading."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from polyb2.core.errors import UsageError
from polyb2.core.scrub import scrub
from polyb2.remote.proxies import proxy_of
from polyb2.remote.sessions import Account, Http, open_client

B2 = "https://s3.us-west-004.backblazeb2.com"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("given", "proxy"),
    [
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy.example:3128/"}, "http://proxy.example:3128/"),
        ({"https_proxy": " http://proxy:3128\n"}, "http://proxy:3128"),
        ({"https_proxy": "https://proxy:3128"}, "https://proxy:3128"),
        ({"https_proxy": "user:p%40ss@proxy:3128"}, "http://user:p%40ss@proxy:3128"),
        ({"https_proxy": "[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"ALL_PROXY": "socks5://other:1", "https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": ""}, None),
        ({"http_proxy": "proxy:3128"}, None),
        ({"https_proxy": "proxy:3128", "no_proxy": "*"}, None),
        ({"https_proxy": "proxy:3128", "no_proxy": "example.com, backblazeb2.com"}, None),
        ({"https_proxy": "proxy:3128", "NO_PROXY": ".backblazeb2.com"}, None),
        ({"https_proxy": "proxy:3128", "no_proxy": "s3.us-west-004.backblazeb2.com:443"}, None),
        ({"https_proxy": "proxy:3128", "no_proxy": "s3.us-west-004.backblazeb2.com:444"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128", "no_proxy": "west-004.example,10.0.0.0/8"}, "http://proxy:3128"),
        ({"https_proxy": "socks5://proxy:1", "no_proxy": "backblazeb2.com"}, None),
    ],
)
def test_it_is_read_as_curl_reads_it(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], proxy: str | None) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(B2) == (URL(proxy) if proxy else None)


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("http://127.0.0.1:9000", True),
        ("https://127.8.9.1:9000", True),
        ("http://localhost:9000", True),
        ("https://LOCALHOST", True),
        ("https://[::1]:9000", True),
        ("https://10.1.2.3", True),
        ("https://[fd00::1]", True),
        ("https://11.1.2.3", False),
        ("https://localhost.example", False),
    ],
)
def test_loopback_and_networks_of_no_proxy_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, url: str, direct: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,fd00::/8")
    assert (proxy_of(url) is None) is direct


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5h://user:s3cr3t@proxy:1080", "names a SOCKS proxy"),
        ("SOCKS4://proxy:1080", "names a SOCKS proxy"),
        ("ftp://user:s3cr3t@proxy", "is not the URL of an HTTP proxy"),
        ("http://user:s3cr3t@proxy:many", "is not the URL of an HTTP proxy"),
        ("http://user:s3cr3t@proxy:99999", "is not the URL of an HTTP proxy"),
        ("http://", "is not the URL of an HTTP proxy"),
        ("http://[s3cr3t", "is not the URL of an HTTP proxy"),
    ],
)
def test_one_that_cannot_be_used_is_a_wrong_setting_that_shows_no_login(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"^{name} {words}") as caught:
        proxy_of(B2)
    assert "s3cr3t" not in str(caught.value)


@asynccontextmanager
async def _proxy(heads: list[str]) -> AsyncIterator[int]:
    """A proxy that notes what it is asked and refuses it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_both_stacks_take_it_with_its_login_and_show_the_login_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []
    async with _proxy(heads) as port:
        monkeypatch.setenv("https_proxy", f"user:s3cr3t@127.0.0.1:{port}")
        async with (
            open_client(Account("https://b2.invalid", "bucket", "r", "key", "secret")) as client,
            Http("https://b2.invalid") as http,
        ):
            with pytest.raises(Exception, match=r"proxy|407") as control:
                await client.head_bucket(Bucket="bucket")
            with pytest.raises(aiohttp.ClientHttpProxyError) as data:
                await http.session(fresh=True).get("https://b2.invalid/")
    login = base64.b64encode(b"user:s3cr3t").decode()
    assert len(heads) == 2
    for head in heads:
        assert head.startswith("CONNECT b2.invalid:443 HTTP/1.1\r\n")
        assert f"Basic {login}" in head
    assert "s3cr3t" not in scrub(f"{control.value} {data.value}")


async def test_neither_stack_asks_a_proxy_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []
    async with _proxy(heads) as port:
        for name in ("http_proxy", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        endpoint = "http://127.0.0.1:1"
        async with open_client(Account(endpoint, "bucket", "r", "key", "secret")) as client, Http(endpoint) as http:
            with pytest.raises(Exception, match=r"Could not connect|Cannot connect"):
                await client.head_bucket(Bucket="bucket")
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.session(fresh=True).get(endpoint)
    assert heads == []
