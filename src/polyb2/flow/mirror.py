"""The state that all transfers of a process share: both stores, the ledger, the slots, the facts known of the target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from polyb2.core.errors import Polyb2Error
from polyb2.core.retry import TIMING, Timing
from polyb2.flow.run.slots import Slots
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.rows import TARGET_ETAGS, Load
from polyb2.meters import Meters
from polyb2.remote.b2 import Target
from polyb2.remote.guard import Fence
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.polygon import Source
from polyb2.remote.relay import Relay
from polyb2.waits import loop_s

OPAQUE = "opaque"
DRAINING = "draining"
"""The problem of a run that was asked to stop: a reason of ``/readyz``, and no fault."""


class DrainedError(Polyb2Error):
    """The process is asked to stop: transfers in progress end, nothing new begins, and nothing is charged."""


@dataclass(slots=True)
class InFlight:
    """A file at work, as progress displays see it.

    Attributes:
        kept_bytes: with receipts of earlier attempts.
        settled_bytes: with receipts, of earlier attempts or of this one.
        relays: the bodies in transfer.
        again: those of them whose bytes are sent again after a failure.
        is_refusal_logged: the refusal of its parts has been logged.
        is_sent_again: an upload of this attempt was refused, so that all its bytes are sent again.
        began_s: when this attempt began, by the loop's clock.
    """

    key: str
    dataset: str
    size: int
    attempt: int
    kept_bytes: int = 0
    settled_bytes: int = 0
    relays: set[Relay] = field(default_factory=set)
    again: set[Relay] = field(default_factory=set)
    is_refusal_logged: bool = False
    is_sent_again: bool = False
    began_s: float = field(default_factory=loop_s)

    @contextmanager
    def carrying(self, relay: Relay, *, again: bool) -> Iterator[None]:
        """Count a body as in transfer, for the first time or ``again``."""
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
        """Bytes with a receipt, and those in transfer."""
        return min(self.size, self.settled_bytes + self.bytes_on_the_way)

    @property
    def bytes_on_the_way(self) -> int:
        """Bytes in transfer without a receipt; those of a body that failed before do not count, as it may fail again."""
        return sum(relay.seen for relay in self.relays - self.again)

    @property
    def left_s(self) -> float | None:
        """Seconds to its end at the rate of this attempt so far; None before there is a rate."""
        gained = self.bytes_done - self.kept_bytes
        return (loop_s() - self.began_s) * (self.size - self.bytes_done) / gained if gained > 0 else None


class PartEtags:
    """Knowledge about the target's part ETags (MD5s or not) that outlives this process."""

    def __init__(self, ledger: Ledger, *, are_opaque: bool) -> None:
        self._ledger = ledger
        self.are_opaque = are_opaque

    @classmethod
    async def known(cls, ledger: Ledger) -> Self:
        """The ledger's record of them."""
        return cls(ledger, are_opaque=await ledger.fact(TARGET_ETAGS) == OPAQUE)

    async def note(self, *, are_opaque: bool) -> None:
        """Record the evidence of an upload."""
        if are_opaque != self.are_opaque:
            await self._ledger.remember(TARGET_ETAGS, OPAQUE if are_opaque else None)
            self.are_opaque = are_opaque


@dataclass(slots=True)
class Mirror:
    """The shared state of all transfers of a process.

    Attributes:
        source: the store that files are read from.
        target: the store that files are written to.
        ledger: the durable state.
        part_etags: the knowledge about the target's part ETags.
        slots: of all files in flight.
        bandwidth: bytes per second over all transfers.
        timing: the times of waits and checks.
        part_bytes: ``POLYB2_PART_SIZE``, None for automatic.
        draining: set once the process is asked to stop.
        in_flight: the files at work, by key.
        on_revised: called with the key of a file that was replaced at the source, once it is queued.
        meters: the counters; both sides count into them as well.
        fence: raises if what this mirror is used for may go on no more.
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
    fence: Fence = lambda: None

    def fenced(self, fence: Fence) -> Mirror:
        """The same mirror for an attempt or a round, whose requests may start only while ``fence`` permits."""
        return replace(self, source=self.source.fenced(fence), target=self.target.fenced(fence), fence=fence)

    @property
    def load(self) -> Load:
        """The slots and rates of this process now, for the ledger."""
        slots, source, target = self.slots, self.source.guard, self.target.guard
        return Load(slots.busy, slots.total, source.per_second, target.per_second)

    def use_share(self, share: float) -> None:
        """Keep to a share, 0 to 1, of the account's limits from now on."""
        self.source.guard.use_share(share)
        self.target.guard.use_share(share)
        self.bandwidth.use_share(share)

    def check_draining(self) -> None:
        """Raise :class:`DrainedError` if nothing new may begin."""
        if self.draining.is_set():
            raise DrainedError("stopped before the file was done; the next run continues from here")
