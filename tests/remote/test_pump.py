"""The direct path of a body: whole, counted, and the connection fit for the next request, or an error that names the side."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import aiohttp
import pytest
import uvloop

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.pump import BUFFER_BYTES, Incoming
from polyb2.remote.relay import Relay
from polyb2.remote.traffic import Traffic

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
BODY = bytes(range(251)) * 80_000
"""Twenty million bytes: more than the sockets of a slow receiver take, and no shift leaves them equal."""


@contextmanager
def closed(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that answers each GET with ``answer``; its address, and how many connections were made."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        with closed(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer)
                await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", connections


@asynccontextmanager
async def receiving(bodies: list[bytes], *, nap_s: float = 0.0) -> AsyncIterator[str]:
    """A server that takes PUTs, after ``nap_s`` for each piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closed(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                left = int(head.split("content-length:")[1].split("\r\n")[0])
                body = bytearray()
                while len(body) < left:
                    body += await reader.read(left - len(body))
                    await asyncio.sleep(nap_s)
                bodies.append(bytes(body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def answering(body: bytes, *, announced: int | None = None, step: int = 0) -> Answer:
    """The body with its length, in pieces of ``step`` bytes."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) if announced is None else announced))
        for start in range(0, len(body), step or len(body)):
            writer.write(body[start : start + (step or len(body))])
            await writer.drain()
        if announced is not None:
            writer.close()

    return answer


@asynccontextmanager
async def relayed(session: aiohttp.ClientSession, url: str, length: int) -> AsyncIterator[Relay]:
    async with Traffic().watch(20, Side.SOURCE) as watch, session.get(url) as response:
        yield Relay(Incoming(response, watch), length, Bandwidth()).hashing()


def payload(relay: Relay) -> aiohttp.Payload:
    assert relay.watch is not None
    return relay.as_payload(relay.watch)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("size", [BUFFER_BYTES + 1, 2 * BUFFER_BYTES, len(BODY)])
@pytest.mark.parametrize("nap_s", [0.0, 0.001], ids=["quick", "slow"])
def test_a_body_passes_whole_and_both_connections_serve_again(
    size: int, nap_s: float, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """On uvloop as well: it keeps what it is given to write where asyncio makes a copy, and the buffer is used again."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_pass_thrice(size, nap_s))


async def _pass_thrice(size: int, nap_s: float) -> None:
    bodies: list[bytes] = []
    async with (
        serving(answering(BODY[:size], step=100_003)) as (url, connections),
        receiving(bodies, nap_s=nap_s) as target,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(3):
            async with relayed(session, url, size) as relay:
                headers = {"Content-Length": str(size)}
                async with session.put(target, data=payload(relay), headers=headers) as response:
                    assert response.status == 200
            assert (relay.seen, relay.md5) == (size, hashlib.md5(BODY[:size]).hexdigest())
        assert bodies == [BODY[:size]] * 3
        assert len(connections) == 1, "the connection was not used again"


async def test_what_is_read_for_its_hash_alone_is_seen_whole() -> None:
    async with serving(answering(BODY)) as (url, _), aiohttp.ClientSession() as session:
        seen = bytearray()
        async with relayed(session, url, len(BODY)) as relay:
            await relay.drain(seen.extend)
        assert seen == BODY


@pytest.mark.parametrize("length", [BUFFER_BYTES + 1, len(BODY)])
async def test_what_follows_a_body_is_not_taken_for_a_part_of_it(length: int) -> None:
    """In the same segment as its last byte: of a later answer, or of a server that sends too much."""
    bodies: list[bytes] = []

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + BODY[:length] + b"x")

    async with (
        asyncio.timeout(15),
        serving(answer) as (url, _),
        receiving(bodies) as target,
        aiohttp.ClientSession() as session,
        relayed(session, url, length) as relay,
    ):
        async with session.put(target, data=payload(relay), headers={"Content-Length": str(length)}) as response:
            assert response.status == 200
        assert (relay.seen, relay.md5) == (length, hashlib.md5(BODY[:length]).hexdigest())
    assert bodies == [BODY[:length]]


@pytest.mark.parametrize("arrives", [0, 1, BUFFER_BYTES, len(BODY) - 1])
async def test_a_body_that_ends_too_early_is_the_sources_fault(arrives: int) -> None:
    bodies: list[bytes] = []
    async with (
        serving(answering(BODY[:arrives], announced=len(BODY))) as (url, _),
        receiving(bodies) as target,
        aiohttp.ClientSession() as session,
        relayed(session, url, len(BODY)) as relay,
    ):
        with pytest.raises((RemoteError, aiohttp.ClientError)):
            async with session.put(target, data=payload(relay), headers={"Content-Length": str(len(BODY))}):
                pass
        assert relay.failure is not None
        assert (relay.failure.side, relay.failure.kind) == (Side.SOURCE, Kind.TRUNCATED)
        assert bodies == []


async def test_a_target_that_hangs_up_is_not_booked_on_the_source() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with (
        serving(answering(BODY)) as (url, _),
        await asyncio.start_server(hang_up, "127.0.0.1", 0) as server,
        aiohttp.ClientSession() as session,
        relayed(session, url, len(BODY)) as relay,
    ):
        target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises((aiohttp.ClientError, OSError)):
            async with session.put(target, data=payload(relay), headers={"Content-Length": str(len(BODY))}):
                pass
        assert relay.failure is None


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_earlier_answer_that_is_read_late_restarts_no_pump(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """It is whole, so that its connection carries the next answer; the end of its reading resumes that connection."""
    short = b"s" * 200_000

    async def answer(writer: asyncio.StreamWriter) -> None:
        body = BODY if asked.pop() else short
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    asked = [True, False]
    taken = bytearray()

    def take(view: memoryview) -> bool:
        taken.extend(view)
        return False

    async def read() -> int:
        async with (
            serving(answer) as (url, connections),
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
        ):
            first = await session.get(url)
            while first.connection is not None:
                await asyncio.sleep(0.001)
            async with Traffic().watch(20, Side.SOURCE) as watch, session.get(url) as second:
                pump = Incoming(second, watch).pump(len(BODY), take)
                assert pump is not None
                with pump:
                    assert await first.read() == short
                    for _ in range(20):
                        await asyncio.sleep(0.001)
                    while pump.left:
                        await pump.flow()
            return len(connections)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(read()) == 1
    assert bytes(taken) == BODY
