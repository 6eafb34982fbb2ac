"""The state that all transfers of a process share: the two stores, the ledger, the slots and what is known of the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from polyb2.core.errors import Polyb2Error
from polyb2.core.timing import TIMING, Timing
from polyb2.flow.run.slots import Slots
from polyb2.ledger.binding import TARGET_ETAGS
from polyb2.ledger.leases import Load
from polyb2.ledger.ledger import Ledger
from polyb2.meters import Meters
from polyb2.remote.guards import Bandwidth
from polyb2.remote.relay import Relay
from polyb2.remote.source import Source
from polyb2.remote.target import Target

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


@dataclass(slots=True)
class Mirror:
    """The shared state of all transfers of a process.

    Attributes:
        source: where files are read.
        target: where they go.
        ledger: the durable state.
        slots: of all files in flight.
        bandwidth: bytes per second over all streams.
        timing: how long is waited between looks and tries.
        part_bytes: ``POLYB2_PART_SIZE``, None for automatic.
        plan_bytes_max: how large a revision that nobody agreed to may be queued; None where all is agreed to.
        opaque_etags: the target's part ETags are known not to be MD5s.
        draining: set once the process is asked to stop.
        in_flight: the files at work, by key.
        on_revised: called with the key of a file that was found replaced, once it is queued.
        meters: what was counted so far; the guards of both sides count into it as well.
    """

    source: Source
    target: Target
    ledger: Ledger
    slots: Slots
    bandwidth: Bandwidth
    timing: Timing = TIMING
    part_bytes: int | None = None
    plan_bytes_max: int | None = None
    opaque_etags: bool = False
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    on_revised: Callable[[str], None] = lambda _key: None
    meters: Meters = field(default_factory=Meters)

    def __post_init__(self) -> None:
        self.source.guard.meters = self.target.guard.meters = self.meters

    @property
    def load(self) -> Load:
        """The streams and rates of this process now, for the ledger."""
        slots, source, target = self.slots, self.source.guard, self.target.guard
        return Load(slots.busy, slots.total, source.per_second, target.per_second)

    def check_draining(self) -> None:
        """Raise :class:`DrainedError` if nothing new may begin."""
        if self.draining.is_set():
            raise DrainedError("stopped before the file was done; the next run goes on from here")

    async def note_opaque(self, *, opaque: bool) -> None:
        """Remember, beyond this process, whether the target's part ETags are MD5s."""
        if opaque != self.opaque_etags:
            self.opaque_etags = opaque
            await self.ledger.remember(TARGET_ETAGS, OPAQUE if opaque else None)
