"""Connections of the page: bounded, ended when nothing comes of them, and never a reason to spin."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from polyb2.web.connections import CONNECTIONS_MAX, Timing, connections_max
from tests.descriptors import no_descriptors_left
from tests.web.conftest import Showing, Site

HALF = b"GET /healthz HTTP/1.1\r\nHost: localh"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def connected(site: Site, first: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    where = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(first)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side ends the connection, a moment at most."""
    with suppress(ConnectionError):
        async with asyncio.timeout(2):
            await reader.read()
    return True


@pytest.mark.parametrize("first", [b"", HALF, WHOLE])
async def test_a_connection_that_asks_no_more_is_ended(showing: Showing, first: bytes) -> None:
    timing = Timing(first_request_s=0.2, answer_s=0.4)
    async with showing(timing=timing) as site, connected(site, first) as (reader, _):
        assert await ended(reader)


async def test_one_that_asks_in_time_may_ask_again(showing: Showing) -> None:
    async with showing(timing=Timing(first_request_s=0.3)) as site, connected(site) as (reader, writer):
        for _ in range(3):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.15)


async def test_silent_ones_make_room_for_those_that_ask(showing: Showing) -> None:
    async with showing() as site:
        silent = [await asyncio.open_connection(*_where(site)) for _ in range(CONNECTIONS_MAX + 20)]
        assert (await site.get("/healthz")).status == 200
        ends = [reader for reader, _ in silent if reader.at_eof() or reader.exception()]
        async with asyncio.timeout(2):
            while len(ends) < 20:
                await asyncio.sleep(0.02)
                ends = [reader for reader, _ in silent if reader.at_eof() or reader.exception()]
        assert len(ends) < 30, "the others still wait"
        await _close(*(writer for _, writer in silent))


async def test_where_all_are_in_use_a_further_one_is_ended_at_once(showing: Showing) -> None:
    async with showing() as site:
        await site.session.close()
        answered, writers = 0, []
        for _ in range(CONNECTIONS_MAX + 2):
            reader, writer = await asyncio.open_connection(*_where(site))
            writers.append(writer)
            with suppress(ConnectionError):
                writer.write(WHOLE)
                answered += (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert CONNECTIONS_MAX - 2 <= answered <= CONNECTIONS_MAX
        await _close(*writers)


async def _close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def _where(site: Site) -> tuple[str, int]:
    where = urlsplit(site.url)
    assert where.hostname is not None
    assert where.port is not None
    return where.hostname, where.port


async def test_without_descriptors_it_waits_and_says_so_once(
    showing: Showing, caplog: pytest.LogCaptureFixture
) -> None:
    async with showing(timing=Timing(accept_again_s=0.05)) as site:
        client = socket.socket()
        client.setblocking(False)
        with no_descriptors_left():
            await asyncio.get_running_loop().sock_connect(client, _where(site))
            client.send(WHOLE)
            await asyncio.sleep(0.4)
        answer = await asyncio.get_running_loop().sock_recv(client, 100)
        assert answer.startswith(b"HTTP/1.1 200")
        client.close()
    told = [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("polyb2.web")
    ]
    assert [record.getMessage() for record in told] == [
        "the page takes no connections just now: Too many open files; it goes on by itself"
    ]


async def test_a_name_with_an_address_that_is_not_here_serves_the_others(
    showing: Showing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``localhost`` where there is no IPv6."""
    loop = asyncio.get_running_loop()
    named = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)

    async def found(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        return [(*entry[:4], (address, port)) for entry in named for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(loop, "getaddrinfo", found)
    async with showing("localhost") as site:
        assert (await site.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("soft", "most"), [(40, 5), (8, 2), (256, 32), (1024, CONNECTIONS_MAX), (resource.RLIM_INFINITY, CONNECTIONS_MAX)]
)
def test_few_descriptors_are_not_the_pages(soft: int, most: int) -> None:
    assert connections_max(soft) == most
