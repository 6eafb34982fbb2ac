"""The state that all transfers of a process share: the two stores, the ledger, the slots and what is known of the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from polyb2.core.errors import Polyb2Error
from polyb2.core.timing import TIMING, Timing
from polyb2.flow.run.slots import Slots
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.rows import TARGET_ETAGS, Load
from polyb2.meters import Meters
from polyb2.remote.b2 import Target
from polyb2.remote.bandwidth import Bandwidth
from polyb2.remote.guard import Fence
from polyb2.remote.polygon import Source
from polyb2.remote.relay import Relay

OPAQUE = "opaque"


class DrainedError(Polyb2Error):
    """The process is asked to stop: what is under way ends, nothing new begins, and nothing is charged."""


@dataclass(slots=True)
class InFlight:
    """A file at work, for those who watch.

    Attributes:
        kept_bytes: with receipts of earlier attempts.
        settled_bytes: with receipts, of earlier attempts or of this one.
        relays: the bodies that are on their way.
        again: those of them whose bytes were on their way before, in vain.
        is_refusal_told: a line has said that its parts are refused.
        is_sent_again: an upload of this attempt was refused, so that all its bytes were on their way before.
        began_s: when this attempt began, on the monotonic clock.
    """

    key: str
    dataset: str
    size: int
    attempt: int
    kept_bytes: int = 0
    settled_bytes: int = 0
    relays: set[Relay] = field(default_factory=set)
    again: set[Relay] = field(default_factory=set)
    is_refusal_told: bool = False
    is_sent_again: bool = False
    began_s: float = field(default_factory=time.monotonic)

    def keep(self, length: int) -> None:
        """Note how many bytes have receipts before parts are sent."""
        self.kept_bytes = self.settled_bytes = length

    @contextmanager
    def carrying(self, relay: Relay, *, again: bool) -> Iterator[None]:
        """Count a body as on its way, for the first time or ``again``."""
        self.relays.add(relay)
        if again or self.is_sent_again:
            self.again.add(relay)
        try:
            yield
        finally:
            self.relays.discard(relay)
            self.again.discard(relay)

    @property
    def bytes_done(self) -> int:
        """Bytes with a receipt, and those on their way."""
        return min(self.size, self.settled_bytes + self.bytes_on_the_way)

    @property
    def bytes_on_the_way(self) -> int:
        """Bytes that have no receipt yet; none of a body that failed before, as it may well fail again."""
        return sum(relay.seen for relay in self.relays - self.again)

    @property
    def left_s(self) -> float | None:
        """Seconds to its end at the rate of this attempt so far; None before it has one."""
        gained = self.bytes_done - self.kept_bytes
        return (time.monotonic() - self.began_s) * (self.size - self.bytes_done) / gained if gained > 0 else None


class PartEtags:
    """Whether the target's part ETags are MD5s, as is known beyond this process."""

    def __init__(self, ledger: Ledger, *, are_opaque: bool) -> None:
        self._ledger = ledger
        self.are_opaque = are_opaque

    @classmethod
    async def known(cls, ledger: Ledger) -> Self:
        """What the ledger remembers of them."""
        return cls(ledger, are_opaque=await ledger.fact(TARGET_ETAGS) == OPAQUE)

    async def note(self, *, are_opaque: bool) -> None:
        """Remember what an upload showed."""
        if are_opaque != self.are_opaque:
            self.are_opaque = are_opaque
            await self._ledger.remember(TARGET_ETAGS, OPAQUE if are_opaque else None)


@dataclass(slots=True)
class Mirror:
    """The shared state of all transfers of a process.

    Attributes:
        source: where files are read.
        target: where they go.
        ledger: the durable state.
        part_etags: what the target's part ETags are known to be.
        slots: of all files in flight.
        bandwidth: bytes per second over all streams.
        timing: how long is waited between looks and tries.
        part_bytes: ``POLYB2_PART_SIZE``, None for automatic.
        draining: set once the process is asked to stop.
        in_flight: the files at work, by key.
        on_revised: called with the key of a file that was found replaced, once it is queued.
        meters: what was counted so far; both sides count into it as well.
    """

    source: Source
    target: Target
    ledger: Ledger
    part_etags: PartEtags
    slots: Slots
    bandwidth: Bandwidth
    meters: Meters
    timing: Timing = TIMING
    part_bytes: int | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    on_revised: Callable[[str], None] = lambda _key: None

    def fenced(self, fence: Fence) -> Mirror:
        """The same mirror for an attempt, whose requests may only begin while ``fence`` lets them."""
        return replace(self, source=self.source.fenced(fence), target=self.target.fenced(fence))

    @property
    def load(self) -> Load:
        """The streams and rates of this process now, for the ledger."""
        slots, source, target = self.slots, self.source.guard, self.target.guard
        return Load(slots.busy, slots.total, source.per_second, target.per_second)

    def check_draining(self) -> None:
        """Raise :class:`DrainedError` if nothing new may begin."""
        if self.draining.is_set():
            raise DrainedError("stopped before the file was done; the next run goes on from here")
