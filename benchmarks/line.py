"""A long line on loopback: delay, a rate that all connections share, and TCP's slow start, in user space.

A process of its own; each port it opens leads to one server. What is emulated, and no more: every byte arrives half a round
trip after it left; each direction has one queue and ``rate_bytes_per_s``; a connection has at most a window of bytes under
way, which begins at ten segments, grows by what was acknowledged, and ends at ``window_bytes``; opening one takes a round
trip. No loss, no jitter. A window is not taken back after a pause.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

FIRST_WINDOW_BYTES = 10 * 1460
READ_BYTES = 64 * 1024
QUEUE_S = 0.01
"""How long the queue of a direction may get before connections are read no further."""


class Direction:
    """One way of the line: one queue at one rate."""

    def __init__(self, rate_bytes_per_s: float, delay_s: float) -> None:
        self._rate = rate_bytes_per_s
        self.delay_s = delay_s
        self.free_s = 0.0

    def arrival_s(self, count: int, now_s: float) -> float:
        """Queue ``count`` bytes; when the last of them is at the other end."""
        self.free_s = max(self.free_s, now_s) + count / self._rate
        return self.free_s + self.delay_s


class End(asyncio.BufferedProtocol):
    """One end of a connection: reads what its peer sends, as far as window and queue allow; writes what arrives.

    Args:
        direction: which way the bytes go that are read here.
        window_bytes: the most that is under way.
        opened_s: nothing leaves before; the connection is still being opened.
    """

    def __init__(self, direction: Direction, window_bytes: float, opened_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._direction = direction
        self._window_max = window_bytes
        self._window = float(FIRST_WINDOW_BYTES)
        self._under_way = 0
        self._unacknowledged = 0
        self._opened_s = opened_s
        self._last_s = 0.0
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP server makes
        self._transport = transport
        if self.other is None:
            transport.pause_reading()

    def join(self, other: End) -> None:
        """The way is open: what is read here is written there."""
        self.other = other
        self._go_on()

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer[: max(1, min(READ_BYTES, int(self._window) - self._under_way))]

    def buffer_updated(self, count: int) -> None:
        now_s = self._loop.time()
        arrival_s = self._direction.arrival_s(count, max(now_s, self._opened_s))
        self._under_way += count
        self._at(arrival_s, self._arrive, bytes(self._buffer[:count]))
        self._pause()

    def _pause(self) -> None:
        """Stop reading while the window is full or the queue is long."""
        if self._transport is None:
            return
        if self._under_way >= self._window:
            self._transport.pause_reading()
        elif self._direction.free_s - self._loop.time() > QUEUE_S:
            self._transport.pause_reading()
            self._loop.call_at(self._direction.free_s - QUEUE_S / 2, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and self._under_way < self._window:
            with suppress(RuntimeError):
                self._transport.resume_reading()

    def _arrive(self, data: bytes) -> None:
        if self.other is not None and self.other.write(data):
            self._loop.call_later(self._direction.delay_s, self._acknowledge, len(data))
        else:
            self._unacknowledged += len(data)

    def _acknowledge(self, count: int) -> None:
        self._under_way -= count
        self._window = min(self._window_max, self._window + count)
        self._go_on()

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Hand on what arrived; False if the reader there has enough for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        return not self._is_full

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self.other is not None:
            self.other.release()

    def release(self) -> None:
        """The reader at the other end has room again: acknowledge what it took."""
        count, self._unacknowledged = self._unacknowledged, 0
        if count:
            self._loop.call_later(self._direction.delay_s, self._acknowledge, count)

    # -- the end ------------------------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        self._at(self._loop.time() + self._direction.delay_s, self._end_other)
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._at(self._loop.time() + self._direction.delay_s, self._close_other)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def end(self) -> None:
        """The peer at the other end writes no more."""
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):  # it was reset, which the loop has not seen yet
                self._transport.write_eof()

    def _end_other(self) -> None:
        if self.other is not None:
            self.other.end()

    def _close_other(self) -> None:
        if self.other is not None:
            self.other.close()

    def _at(self, when_s: float, act: Callable[..., None], *arguments: object) -> None:
        """In the order in which it was asked for, at ``when_s`` or after what is before it."""
        self._last_s = max(self._last_s, when_s)
        self._loop.call_at(self._last_s, act, *arguments)


class Line:
    """Ports at the near end, servers at the far end."""

    def __init__(self, rate_bytes_per_s: float, round_trip_s: float, window_bytes: float) -> None:
        self._up = Direction(rate_bytes_per_s, round_trip_s / 2)
        self._down = Direction(rate_bytes_per_s, round_trip_s / 2)
        self._round_trip_s = round_trip_s
        self._window_bytes = window_bytes
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> int:
        """A port whose connections lead to ``port`` of loopback."""

        def near() -> End:
            loop = asyncio.get_running_loop()
            end = End(self._up, self._window_bytes, loop.time() + self._round_trip_s)
            opening = loop.create_task(self._connect(end, port))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
            return end

        server = await asyncio.get_running_loop().create_server(near, "127.0.0.1", 0, backlog=1024)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def _connect(self, near: End, port: int) -> None:
        far = End(self._down, self._window_bytes, 0.0)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", port)
        except OSError:
            near.close()
            return
        near.join(far)
        far.join(near)


async def main() -> None:
    config: dict[str, Any] = json.loads(sys.stdin.readline())
    line = Line(config["rate_bytes_per_s"], config["round_trip_s"], config["window_bytes"])
    ports = [await line.open(port) for port in config["ports"]]
    print(json.dumps({"ports": ports}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
