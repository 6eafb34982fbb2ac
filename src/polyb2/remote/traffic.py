"""Bytes as the sockets take them: each body's progress, and that of all bodies together.

A body's own counter tells what passed through this process; the kernel may hold megabytes of it, which take minutes on a slow
line. So TCP is asked (``TCP_INFO``, Linux): the bytes that came in, and those that the other end acknowledged. Where it
cannot be asked, the counter and the transport's buffer have to do. Looked at ten times a second, never per chunk.
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
"""Over what time a body's rate is smoothed."""
_ACKED_AT, _RECEIVED_AT, _UNACKED_AT, _UNSENT_AT, _INFO_BYTES = 120, 128, 24, 144, 148
_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None


class Passing(Protocol):
    """A body on its way: the bytes that came in so far, and how many it has."""

    seen: int
    length: int


class Wire:
    """One connection's bytes since a body took it over: since the first look, where that may wait."""

    def __init__(self, transport: asyncio.BaseTransport, *, may_wait: bool = False) -> None:
        # Not isinstance: uvloop's transports are no subclasses.
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
        """TCP tells its bytes, or was not asked yet."""
        return self._first is not None or self._is_waiting

    def look(self) -> None:
        """Ask TCP; a connection that has ended stays as it was."""
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
    """Gives a body up when no byte of it moved for ``patience_s``, or when it trickles; knows which side was waited for.

    Made by :class:`Traffic` for ``Guard.body``; a context manager. The request that brings the body and the one that sends it
    on share one.
    """

    def __init__(self, traffic: Traffic, patience_s: float, side: Side) -> None:
        self.turn: Turn | None = None
        """The turn at the other side, if it was waited for together with this side's."""
        self.answered: Callable[[], None] = lambda: None
        """Says that the side takes the request, as soon as the head of its answer does."""
        self.patience_s = patience_s
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
        """The body comes in through this connection; None: it is here already."""
        self._incoming = None if transport is None else Wire(transport)

    def carries(self, body: Passing) -> None:
        """The counter of the body itself."""
        self._body = body

    def sends(self, transport: asyncio.BaseTransport | None, *, at_once: bool = False) -> None:
        """The body goes out through this connection; a short one ``at_once``: most are through before anybody looks."""
        may_wait = at_once and self._body is not None
        self._outgoing = None if transport is None else Wire(transport, may_wait=may_wait)
        # aiohttp sends a body at hand again where a connection that it kept had ended meanwhile.
        self._restart(asyncio.get_running_loop().time())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waiting for our own limits is no stall."""
        self._rests += 1
        try:
            yield
        finally:
            self._rests -= 1
            self._restart(asyncio.get_running_loop().time())

    @property
    def is_sent(self) -> bool:
        """The body goes, or will go, to a side, rather than only being read."""
        return self.receiver is not None or self.turn is not None

    @property
    def passed_bytes(self) -> int:
        """What got through: to the side that it is sent to, or to us where it is only read."""
        seen = self._body.seen if self._body is not None else 0
        if not self.is_sent:
            return max(seen, self._incoming.received_bytes if self._incoming is not None else 0)
        if self._outgoing is None:
            return 0
        return self._outgoing.acked_bytes if self._outgoing.counts else seen

    def final_bytes(self, *, went_well: bool) -> int:
        """What got through in the end: all of a body whose request was answered as it should be."""
        if went_well and self._body is not None and (self._outgoing is not None or not self.is_sent):
            return self._body.seen
        self.look(asyncio.get_running_loop().time())
        return self.passed_bytes

    @property
    def waiting_for(self) -> Side:
        """The side whose turn it is."""
        if self.receiver is None:
            return self._sender
        if self._outgoing is None or self._has_come or self._outgoing.is_backed_up:
            return self.receiver
        return self._sender

    @property
    def _has_come(self) -> bool:
        """All of the body has come in."""
        return self._body is None or self._body.seen >= self._body.length

    def lasts(self, now_s: float) -> bool:
        """It has been on its way for a while."""
        return self._began_s is not None and now_s - self._began_s > MOMENT_S

    # -- looking ------------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """See what moved since the last look."""
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
        elif now_s - self._moved_s >= (patience_s := self.patience_s * stall_factor(beside)):
            self._give_up(f"no byte moved for {patience_s:.3g} s")
        elif self._window is not None and now_s - self._window[0] >= self.patience_s:
            began_s, before = self._window
            rate = (self.passed_bytes - before) / (now_s - began_s)
            self._window = (now_s, self.passed_bytes)
            is_under_way = not self._has_come or (self._outgoing is not None and self._outgoing.is_backed_up)
            if is_under_way and trickles(rate, beside):
                self._give_up(f"only {rate:.0f} bytes a second came for {self.patience_s:.3g} s")

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
        # The body knows its watch: each would keep the other until the collector comes by, and with them the bytes.
        self._body = self._incoming = self._outgoing = None
        try:
            await self._scope.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            raise RemoteError(waited_for, Kind.STALLED, self._words) from None


class Traffic:
    """All bodies of a process on their way, looked at ten times a second while there are any."""

    def __init__(self) -> None:
        self._watches: set[StallWatch] = set()
        self._ended_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, patience_s: float, side: Side) -> StallWatch:
        """A watch for a body that ``side`` sends, or (``StallWatch.receiver``) takes."""
        return StallWatch(self, patience_s, side)

    @property
    def passed_bytes(self) -> int:
        """What all bodies got through so far."""
        return self._ended_bytes + sum(watch.passed_bytes for watch in self._watches)

    @property
    def lasting(self) -> int:
        """Bodies that have been on their way for a while."""
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
        every_s = min([LOOK_EVERY_S, *(watch.patience_s / 8 for watch in self._watches)])
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
