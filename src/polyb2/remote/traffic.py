"""Bytes as the sockets take them: the progress of each body, and of all bodies together.

A body's own counter shows the bytes that passed through this process; the kernel may hold megabytes of it, which take
minutes on a slow line. So TCP is asked (``TCP_INFO``, Linux) for the bytes that came in and those that the other end
acknowledged. Where that is not possible, the counter and the transport's buffer serve. Sampled ten times a second,
never per chunk.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median_low
from typing import TYPE_CHECKING, Protocol, Self, cast

from polyb2.core.concurrency import MOMENT_S, stall_factor, trickles
from polyb2.core.errors import Kind, RemoteError, Side

if TYPE_CHECKING:
    from polyb2.remote.limiter import Turn

LOOK_EVERY_S = 0.1
REMEMBERED_S = 2.0
"""Time constant of the smoothing of a body's rate."""
_ACKED_AT, _RECEIVED_AT, _UNACKED_AT, _UNSENT_AT, _INFO_BYTES = 120, 128, 24, 144, 148
_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None


class Passing(Protocol):
    """A body in transfer: the bytes that came in so far, and its length."""

    seen: int
    length: int


class Wire:
    """The bytes of one connection since a body took it over: since the first sample, if that may wait."""

    def __init__(self, transport: asyncio.BaseTransport, *, may_wait: bool = False) -> None:
        # Not isinstance: uvloop's transports are not subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self.acked_bytes = self.received_bytes = 0
        """Of this body."""
        self.is_backed_up = False
        """Bytes wait to be sent, or to be acknowledged."""
        self.buffered_bytes = 0
        """In this process."""
        self._first: tuple[int, int] | None = None
        self._is_waiting = may_wait
        if not may_wait:
            self.look()

    @property
    def counts(self) -> bool:
        """Tell if TCP reports its bytes, or was not asked yet."""
        return self._first is not None or self._is_waiting

    def look(self) -> None:
        """Ask TCP; a connection that has ended keeps its last state."""
        self._is_waiting = False
        if self._transport.is_closing():
            return
        self.buffered_bytes = self._transport.get_write_buffer_size()
        self.is_backed_up = self.buffered_bytes > 0
        if _TCP_INFO is None or self._socket is None:
            return
        with suppress(OSError):
            raw = self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
            if len(raw) == _INFO_BYTES:
                self._note(raw)

    def _note(self, raw: bytes) -> None:
        acked, received = struct.unpack_from("QQ", raw, _ACKED_AT)
        unacked, unsent = struct.unpack_from("I", raw, _UNACKED_AT)[0], struct.unpack_from("I", raw, _UNSENT_AT)[0]
        self._first = self._first or (acked, received)
        self.acked_bytes, self.received_bytes = acked - self._first[0], received - self._first[1]
        self.is_backed_up = self.is_backed_up or bool(unacked or unsent)


class StallWatch:
    """Ends a body when no byte of it moved for ``stall_timeout_s``, or when it trickles; knows which side held it up.

    Made by :class:`Traffic` for ``Guard.body``; a context manager. The request that brings the body and the one that sends it
    on share one.
    """

    def __init__(self, traffic: Traffic, stall_timeout_s: float, side: Side) -> None:
        self.turn: Turn | None = None
        """The turn at the other side, if it was taken together with this side's."""
        self.answered: Callable[[], None] = lambda: None
        """Notes that the side accepts the request, as soon as the head of its answer does."""
        self.stall_timeout_s = stall_timeout_s
        self.receiver: Side | None = None
        """The side that the body is sent to, once that request begins."""
        self._traffic = traffic
        self._sender = side
        self._scope = asyncio.timeout(None)
        self._words = ""
        self._body: Passing | None = None
        self._incoming: Wire | None = None
        self._outgoing: Wire | None = None
        self._rests = 0
        self._mark: tuple[int, ...] = ()
        self._moved_s = 0.0
        self._began_s: float | None = None
        self._window: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)
        self.bytes_per_s = 0.0

    # -- what moves ---------------------------------------------------------------------------------------------------

    def receives(self, transport: asyncio.BaseTransport | None) -> None:
        """The body comes in through this connection; None: it is complete already."""
        self._incoming = None if transport is None else Wire(transport)

    def carries(self, body: Passing) -> None:
        """The counter of the body itself."""
        self._body = body

    def sends(self, transport: asyncio.BaseTransport | None, *, at_once: bool = False) -> None:
        """The body goes out through this connection; a short one ``at_once``: most are sent before the first sample."""
        may_wait = at_once and self._body is not None
        self._outgoing = None if transport is None else Wire(transport, may_wait=may_wait)
        # aiohttp sends a complete body again if a connection that it kept had ended meanwhile.
        self._restart(asyncio.get_running_loop().time())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waits for our own limits are no stall."""
        self._rests += 1
        try:
            yield
        finally:
            self._rests -= 1
            self._restart(asyncio.get_running_loop().time())

    @property
    def is_sent(self) -> bool:
        """Tell if the body is, or will be, sent to a side, rather than only read."""
        return self.receiver is not None or self.turn is not None

    @property
    def passed_bytes(self) -> int:
        """Bytes delivered: to the side that it is sent to, or to us if it is only read."""
        seen = self._body.seen if self._body is not None else 0
        if not self.is_sent:
            return max(seen, self._incoming.received_bytes if self._incoming is not None else 0)
        if self._outgoing is None:
            return 0
        return self._outgoing.acked_bytes if self._outgoing.counts else seen

    def final_bytes(self, *, went_well: bool) -> int:
        """Bytes delivered in the end: the whole body, if its request was answered as it should be."""
        if went_well and self._body is not None and (self._outgoing is not None or not self.is_sent):
            return self._body.seen
        self.look(asyncio.get_running_loop().time())
        return self.passed_bytes

    @property
    def waiting_for(self) -> Side:
        """The side that is being waited for."""
        if self.receiver is None:
            return self._sender
        if self._outgoing is None or self._has_come or self._outgoing.is_backed_up:
            return self.receiver
        return self._sender

    @property
    def _has_come(self) -> bool:
        """Tell if all of the body has come in."""
        return self._body is None or self._body.seen >= self._body.length

    def lasts(self, now_s: float) -> bool:
        """Tell if it has been in transfer for a while."""
        return self._began_s is not None and now_s - self._began_s > MOMENT_S

    # -- looking ------------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Take a sample of the bytes that moved."""
        if self._incoming is not None and (self._body is None or not self._has_come):
            # A connection whose body is complete may carry another by now.
            self._incoming.look()
        if self._outgoing is not None:
            self._outgoing.look()
        mark = self._counters()
        if mark != self._mark:
            self._mark, self._moved_s = mark, now_s
            if self._began_s is None and (self._body is not None or self._outgoing is not None):
                self._began_s = now_s
                self._window = (now_s, self.passed_bytes)
        self._follow_rate(now_s)

    def _counters(self) -> tuple[int, ...]:
        received = self._incoming.received_bytes if self._incoming is not None else 0
        sent = 0
        if self._outgoing is not None:
            sent = self._outgoing.acked_bytes if self._outgoing.counts else -self._outgoing.buffered_bytes
        return (received, sent, self._body.seen if self._body is not None else 0)

    def _follow_rate(self, now_s: float) -> None:
        (before_s, before), passed = self._last, self.passed_bytes
        if now_s <= before_s:
            return
        share = min(1.0, (now_s - before_s) / REMEMBERED_S)
        self.bytes_per_s += share * (max(0, passed - before) / (now_s - before_s) - self.bytes_per_s)
        self._last = (now_s, passed)

    def judge(self, now_s: float, others: list[float]) -> None:
        """End the body if it stalls, or trickles for as long; ``others`` are the rates of bodies that go the same way."""
        beside = median_low(others) if others else None
        if self._rests:
            self._restart(now_s)
        elif now_s - self._moved_s >= (stall_timeout_s := self.stall_timeout_s * stall_factor(beside)):
            self._give_up(f"no byte moved for {stall_timeout_s:.3g} s")
        elif self._window is not None and now_s - self._window[0] >= self.stall_timeout_s:
            began_s, before = self._window
            rate = (self.passed_bytes - before) / (now_s - began_s)
            self._window = (now_s, self.passed_bytes)
            is_under_way = not self._has_come or (self._outgoing is not None and self._outgoing.is_backed_up)
            if is_under_way and trickles(rate, beside):
                self._give_up(f"only {rate:.0f} bytes a second came for {self.stall_timeout_s:.3g} s")

    def _give_up(self, words: str) -> None:
        if not self._words:
            self._words = words
            self._scope.reschedule(asyncio.get_running_loop().time())

    def _restart(self, now_s: float) -> None:
        self._moved_s = now_s
        if self._window is not None:
            self._window = (now_s, self.passed_bytes)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._moved_s = asyncio.get_running_loop().time()
        self._last = (self._moved_s, 0)
        self._traffic.enter(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._traffic.leave(self, went_well=exc[0] is None)
        waited_for = self.waiting_for
        # The body holds its watch: a reference back would keep both, and the bytes, until the collector runs.
        self._body = self._incoming = self._outgoing = None
        try:
            await self._scope.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            raise RemoteError(waited_for, Kind.STALLED, self._words) from None


class Traffic:
    """All bodies of a process in transfer, sampled ten times a second while there are any."""

    def __init__(self) -> None:
        self._watches: set[StallWatch] = set()
        self._ended_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stall_timeout_s: float, side: Side) -> StallWatch:
        """A watch for a body that ``side`` sends, or (``StallWatch.receiver``) takes."""
        return StallWatch(self, stall_timeout_s, side)

    @property
    def passed_bytes(self) -> int:
        """Bytes that all bodies delivered so far."""
        return self._ended_bytes + sum(watch.passed_bytes for watch in self._watches)

    @property
    def lasting(self) -> int:
        """Bodies that have been in transfer for a while."""
        now_s = asyncio.get_running_loop().time()
        return sum(watch.lasts(now_s) for watch in self._watches)

    def enter(self, watch: StallWatch) -> None:
        self._watches.add(watch)
        if self._timer is None:
            self._look_later()

    def leave(self, watch: StallWatch, *, went_well: bool) -> None:
        self._watches.discard(watch)
        self._ended_bytes += watch.final_bytes(went_well=went_well)

    def _look_later(self) -> None:
        every_s = min([LOOK_EVERY_S, *(watch.stall_timeout_s / 8 for watch in self._watches)])
        self._timer = asyncio.get_running_loop().call_later(every_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        for watch in self._watches:
            watch.look(now_s)
        lasting = [watch for watch in self._watches if watch.lasts(now_s)]
        for watch in self._watches:
            others = [one.bytes_per_s for one in lasting if one is not watch and one.is_sent is watch.is_sent]
            watch.judge(now_s, others)
        if self._watches:
            self._look_later()
