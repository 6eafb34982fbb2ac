"""Bytes are counted as the sockets take them, and a body without progress is given up: by real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.retry import RequestPolicy
from polyb2.core.schedule import Schedule
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.pump import BUFFER_BYTES
from polyb2.remote.relay import Relay
from polyb2.remote.route import Route
from polyb2.remote.sessions import Http
from polyb2.remote.traffic import Traffic

PATIENCE_S = 0.5
BODY = os.urandom(BUFFER_BYTES + 40_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP tells its bytes on Linux only")


@asynccontextmanager
async def served(serve: Serve, *, receive_bytes: int = 0) -> AsyncIterator[str]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over; the stream's own callback would tell of it
        finally:
            writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    if receive_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    async with await asyncio.start_server(one, sock=listener, limit=1024) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def sending(steps: list[int], every_s: float, announced: int = len(BODY)) -> Serve:
    """Sends the body, again and again, in steps of so many bytes, and holds the connection after the last."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % announced)
        sent = 0
        for step in steps:
            at = sent % (len(BODY) - step + 1)
            writer.write(BODY[at : at + step])
            sent += step
            await asyncio.sleep(every_s)
        await reader.read()

    return serve


def taking(step: int, every_s: float, *, stops_after: int | None = None) -> Serve:
    """Reads a body slowly, and answers after its end; or reads no further at some point."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        left = int(head.split("content-length:")[1].split("\r\n")[0])
        taken = 0
        while left and (stops_after is None or taken < stops_after):
            data = await reader.read(min(step, left))
            left -= len(data)
            taken += len(data)
            await asyncio.sleep(every_s)
        if left:
            await asyncio.sleep(30)
        writer.write(OK)
        await writer.drain()

    return serve


class Pair:
    """The data paths of both sides."""

    def __init__(self, source: Http, target: Http) -> None:
        policy, self.traffic = RequestPolicy(), Traffic()
        self.source, self.target = (
            Guard(side, policy, 0, PATIENCE_S, traffic=self.traffic) for side in (Side.SOURCE, Side.TARGET)
        )
        self.get, self.put = Route(source, self.source).get, Route(target, self.target).put

    async def relay(self, source: str, target: str) -> None:
        async with self.get(source, {}, accepted, fresh=True, onward=self.target) as incoming:
            await self.send(target, Relay(incoming, len(BODY), Bandwidth()))

    async def send(self, target: str, body: Relay | bytes) -> None:
        headers = {"Content-Length": str(len(BODY))}
        await self.put("upload_part", target, headers, body, accepted, fresh=True)


async def accepted(response: aiohttp.ClientResponse) -> None:
    assert response.status == 200


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with Http("http://127.0.0.1:1") as source, Http("http://127.0.0.1:1") as target:
        yield Pair(source, target)


QUICK = [len(BODY)]


@linux
@pytest.mark.parametrize("at_hand", [False, True], ids=["relayed", "at hand"])
async def test_a_slow_receiver_that_takes_bytes_is_waited_for(pair: Pair, at_hand: bool) -> None:
    """It takes three times the stall time-out, nearly all of it with the body in the kernel's buffers."""
    async with (
        served(sending(QUICK, 0)) as source,
        served(taking(8192, 3 * PATIENCE_S / (len(BODY) / 8192)), receive_bytes=4096) as target,
    ):
        began_s = time.monotonic()
        await (pair.send(target, BODY) if at_hand else pair.relay(source, target))
        assert time.monotonic() - began_s > 2 * PATIENCE_S
    assert pair.traffic.passed_bytes >= len(BODY)


async def test_a_body_that_has_gone_is_freed_without_the_collector(pair: Pair) -> None:
    async with served(sending(QUICK, 0)) as source, served(taking(1 << 20, 0)) as target:
        gc.disable()
        try:
            async with pair.get(source, {}, accepted, fresh=True, onward=pair.target) as incoming:
                body = Relay(incoming, len(BODY), Bandwidth())
                gone = weakref.ref(body)
                await pair.send(target, body)
            del body, incoming
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("at_hand", [False, True], ids=["relayed", "at hand"])
async def test_a_receiver_that_takes_no_more_is_given_up_and_named(pair: Pair, at_hand: bool) -> None:
    async with (
        served(sending(QUICK, 0)) as source,
        served(taking(8192, 0, stops_after=100_000), receive_bytes=4096) as target,
    ):
        error = await failure(pair.send(target, BODY) if at_hand else pair.relay(source, target))
    assert (error.side, error.kind, error.message) == (Side.TARGET, Kind.STALLED, "no byte moved for 0.5 s")


async def test_a_sender_that_sends_no_more_is_given_up_and_named(pair: Pair) -> None:
    async with served(sending([200_000], 0)) as source, served(taking(1 << 20, 0)) as target:
        error = await failure(pair.relay(source, target))
    assert (error.side, error.kind, error.message) == (Side.SOURCE, Kind.STALLED, "no byte moved for 0.5 s")


async def test_a_sender_that_trickles_is_given_up_and_named(pair: Pair) -> None:
    async with served(sending([50_000, *[1] * 500], 0.05)) as source, served(taking(1 << 20, 0)) as target:
        error = await failure(pair.relay(source, target))
    assert (error.side, error.kind) == (Side.SOURCE, Kind.STALLED)
    assert "bytes a second came" in error.message


async def test_a_sender_far_slower_than_those_beside_it_is_given_up(pair: Pair) -> None:
    """Two kilobytes a second are a line for a body that is alone."""
    length = 10**8

    async def read(url: str) -> None:
        async with pair.get(url, {}, accepted, fresh=True) as incoming:
            await Relay(incoming, length, Bandwidth()).drain()

    async with (
        served(sending([100] * 2000, 0.05, length)) as slow,
        served(sending([20_000] * 2000, 0.02, length)) as quick,
    ):
        alone = asyncio.create_task(read(slow))
        await asyncio.sleep(3 * PATIENCE_S)
        assert not alone.done()
        beside = [asyncio.create_task(read(quick)) for _ in range(2)]
        error = await failure(alone)
        assert "bytes a second came" in error.message
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def test_our_own_limit_is_no_stall(pair: Pair) -> None:
    async with served(sending(QUICK, 0)) as source, pair.get(source, {}, accepted, fresh=True) as incoming:
        await Relay(incoming, len(BODY), Bandwidth(Schedule(len(BODY) // 2))).drain()


@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
async def test_an_answer_that_does_not_begin_is_a_stall_of_its_side(pair: Pair, side: Side) -> None:
    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    async def deaf(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass

    async with (
        served(mute if side is Side.SOURCE else sending(QUICK, 0)) as source,
        served(deaf) as target,
    ):
        error = await failure(pair.relay(source, target))
    assert (error.side, error.kind) == (side, Kind.STALLED)


async def failure(work: Awaitable[None]) -> RemoteError:
    with pytest.raises(RemoteError) as raised:
        await asyncio.wait_for(work, 10)
    return raised.value
