"""A body in aiohttp's chunks: as long as was asked for, or an error of the side that sent it; the rest is not read."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.retry import RequestPolicy
from polyb2.remote.classify import from_response
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.pump import BUFFER_BYTES
from polyb2.remote.relay import Relay
from polyb2.remote.route import Route
from polyb2.remote.sessions import Http

LENGTH = 1000
LONG = os.urandom(3 * BUFFER_BYTES)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _pieces(length: int) -> AsyncIterator[bytes]:
    for start in range(0, length, 300):
        yield bytes(min(300, length - start))


@pytest.mark.parametrize(
    ("comes", "kind", "words"),
    [
        (LENGTH - 1, Kind.TRUNCATED, "the body ended after 999 of 1000 bytes"),
        (0, Kind.TRUNCATED, "the body ended after 0 of 1000 bytes"),
        (LENGTH + 1, Kind.BAD_ANSWER, "more than the 1000 bytes asked for arrived"),
    ],
)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("way", [Relay.collect, Relay.drain])
async def test_a_body_in_chunks_has_the_length_that_was_asked_for(
    way: Callable[[Relay], Awaitable[object]], side: Side, comes: int, kind: Kind, words: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        await way(Relay(_pieces(comes), LENGTH, Bandwidth(), side))
    assert (caught.value.side, caught.value.kind, caught.value.message) == (side, kind, words)


async def test_a_body_in_chunks_of_the_right_length_is_whole() -> None:
    relay = Relay(_pieces(LENGTH), LENGTH, Bandwidth()).hashing()
    assert (await relay.collect(), relay.md5) == (bytes(LENGTH), hashlib.md5(bytes(LENGTH)).hexdigest())


# -- over sockets ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _served(serve: Serve) -> AsyncIterator[str]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def _in_chunks(*chunks: bytes) -> Serve:
    """A body without an announced length, which ends in order."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in (*chunks, b""):
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await writer.drain()

    return serve


class _Sides:
    """The data paths of both sides."""

    def __init__(self, http: Http) -> None:
        policy = RequestPolicy(tries=1)
        self.source, self.target = (Route(http, Guard(side, policy, 0, 5.0)) for side in (Side.SOURCE, Side.TARGET))

    async def pass_on(self, source: str, target: str, length: int) -> None:
        async with self.source.get(source, {}, _accepted, fresh=True) as incoming:
            relay = Relay(incoming, length, Bandwidth())
            headers = {"Content-Length": str(length)}
            await self.target.put("put", target, headers, relay, _accepted, fresh=True)


@pytest.fixture
async def sides() -> AsyncIterator[_Sides]:
    async with Http("http://127.0.0.1:1") as http:
        yield _Sides(http)


async def _accepted(response: aiohttp.ClientResponse) -> None:
    assert response.status == 200


async def _taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass


@pytest.mark.parametrize("length", [LENGTH, len(LONG)], ids=["short", "long"])
async def test_a_source_that_breaks_off_is_not_booked_on_the_target(sides: _Sides, length: int) -> None:
    async with _served(_in_chunks(LONG[: length - 7])) as source, _served(_taken) as target:
        with pytest.raises(RemoteError) as caught:
            await sides.pass_on(source, target, length)
    assert (caught.value.side, caught.value.kind) == (Side.SOURCE, Kind.TRUNCATED)


async def test_a_long_body_in_chunks_is_read_as_chunks(sides: _Sides) -> None:
    """The direct path knows no heads of chunks: they would be taken for bytes of the file."""
    seen = bytearray()
    async with (
        _served(_in_chunks(LONG[:BUFFER_BYTES], LONG[BUFFER_BYTES:])) as source,
        sides.source.get(source, {}, _accepted, fresh=True) as incoming,
    ):
        await Relay(incoming, len(LONG), Bandwidth()).drain(seen.extend)
    assert seen == LONG


def _endless(status: bytes, gone: asyncio.Event) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: 1000000000000\r\n\r\n" % status)
        try:
            while True:
                writer.write(LONG)
                await writer.drain()
        finally:
            gone.set()

    return serve


async def test_what_was_not_read_of_a_body_is_not_drained(sides: _Sides) -> None:
    """An answer that is not wanted may be a large file, or have no end."""
    gone = asyncio.Event()
    async with _served(_endless(b"200 OK", gone)) as source:
        async with sides.source.get(source, {}, _accepted, fresh=False):
            pass
        await asyncio.wait_for(gone.wait(), 5)


async def test_an_endless_error_is_read_to_its_bound(sides: _Sides) -> None:
    async def refused(response: aiohttp.ClientResponse) -> None:
        raise await from_response(Side.SOURCE, "get", response)

    async with asyncio.timeout(5), _served(_endless(b"500 Sorry", asyncio.Event())) as source:
        with pytest.raises(RemoteError, match="get was answered 500"):
            async with sides.source.get(source, {}, refused, fresh=False):
                pass
