"""What a transfer works with, in one place: the two stores, the ledger, the streams and what is known of the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from polyb2 import __version__
from polyb2.core.errors import Polyb2Error
from polyb2.core.parts import Part
from polyb2.core.proof import ProofMark
from polyb2.core.records import Claim
from polyb2.core.stamp import Stamp
from polyb2.flow.streams import Streams
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.rows import TARGET_ETAGS, Load
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
        streams: the slots.
        bandwidth: bytes per second over all streams.
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
    streams: Streams
    bandwidth: Bandwidth
    part_bytes: int | None = None
    plan_bytes_max: int | None = None
    opaque_etags: bool = False
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    on_revised: Callable[[str], None] = lambda _key: None
    meters: Meters = field(default_factory=Meters)

    def __post_init__(self) -> None:
        self.source.guard.meters = self.target.guard.meters = self.meters

    def dest_key(self, claim: Claim) -> str:
        return self.target.prefix + claim.key

    @property
    def load(self) -> Load:
        """What this process is up to now."""
        streams, source, target = self.streams, self.source.guard, self.target.guard
        return Load(streams.busy, streams.total, source.per_second, target.per_second)

    def check_draining(self) -> None:
        """Raise :class:`DrainedError` if nothing new may begin."""
        if self.draining.is_set():
            raise DrainedError("stopped before the file was done; the next run goes on from here")

    async def note_opaque(self, *, opaque: bool) -> None:
        """Remember, beyond this process, whether the target's part ETags are MD5s."""
        if opaque != self.opaque_etags:
            self.opaque_etags = opaque
            await self.ledger.remember(TARGET_ETAGS, OPAQUE if opaque else None)


def stamp_of(claim: Claim, proof: ProofMark) -> Stamp:
    """The marks of the object that this claim's attempt makes."""
    revision = claim.revision
    modified_ms = revision.last_modified_ms
    return Stamp(claim.token, revision.etag, proof, __version__, modified_ms, modified_ms)


def whole(size: int) -> Part:
    """A file as one part."""
    return Part(1, 0, size)
