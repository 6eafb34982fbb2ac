"""One stream: a range GET joined to one PUT, tried again by the one policy, with no slot held while it waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.gzipped import GzipCheck
from polyb2.core.logevents import LogEvent, told
from polyb2.core.parts import Part
from polyb2.core.proof import md5_form
from polyb2.core.records import Claim, Receipt, Revision, Upload
from polyb2.flow.mirror import Mirror
from polyb2.flow.refusals import Refusals
from polyb2.flow.streams import Slot
from polyb2.remote.guards import Tries
from polyb2.remote.relay import Relay

log = logging.getLogger(__name__)
T = TypeVar("T")
TOLD_AFTER_S = 60.0
"""For how long a part is refused until a line says so."""


async def tried(
    mirror: Mirror, slot: Slot, length: int, once: Callable[[bool], Awaitable[T]], key: str | None = None
) -> T:
    """Run ``once``, which moves ``length`` bytes, until it succeeds or the policy says stop.

    It is told whether it was tried before, and so is to use a new connection; ``key`` is the file that it sends.

    Raises:
        RemoteError: of either side, after all tries.
        DrainedError: the process stops.
    """
    tries = Tries(mirror.target.guard.policy, mirror.meters)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        try:
            async with mirror.streams.gate.passage(length) as has_waited:
                if has_waited:
                    mirror.check_draining()
                return await once(tries.failures > 0)
        except RemoteError as error:
            delay_s = tries.delay_s(error)
            if key is not None and loop.time() - began_s > TOLD_AFTER_S:
                _tell_refusal(mirror, key, error)
        mirror.check_draining()
        await slot.rest(delay_s)


def _tell_refusal(mirror: Mirror, key: str, error: RemoteError) -> None:
    """Say once in an attempt that it gets nowhere, and why."""
    entry = mirror.in_flight.get(key)
    if entry is None or entry.is_refusal_told:
        return
    entry.is_refusal_told = True
    extra = told(LogEvent.REQUEST_RETRIED, key=key, side=error.side, reason=error.kind)
    log.warning("%s: the %s refuses parts of it: %s; they are tried again", key, error.side, error.found, extra=extra)


async def send_part(
    mirror: Mirror, claim: Claim, upload: Upload, part: Part, slot: Slot, *, hashed: bool, refusals: Refusals
) -> Receipt:
    """Carry one part over; the receipt is not in the ledger yet.

    Raises:
        RemoteError: of either side, after all tries.
    """

    async def once(fresh: bool) -> Receipt:
        async with mirror.source.read(
            claim.key, claim.revision, part, fresh=fresh, onward=mirror.target.guard
        ) as incoming:
            relay = Relay(incoming, part.length, mirror.bandwidth)
            if hashed:
                relay.hashing()
            with shown(mirror, claim, relay, again=fresh), refusals.counted():
                etag = await mirror.target.put_part(upload, part, relay, fresh=fresh)
            return Receipt(part, etag, relay.md5)

    return await tried(mirror, slot, part.length, once, claim.key)


async def hash_source(mirror: Mirror, key: str, revision: Revision, part: Part | None, slot: Slot) -> str:
    """Read a part of the source (None: all of it) for its MD5 alone."""
    length = revision.size if part is None else part.length

    async def once(fresh: bool) -> str:
        async with mirror.source.read(key, revision, part, fresh=fresh) as incoming:
            relay = Relay(incoming, length, mirror.bandwidth)
            await relay.hashing().drain()
            return relay.md5 or ""

    return await tried(mirror, slot, length, once)


async def hash_stored(
    mirror: Mirror, dest_key: str, version_id: str | None, part: Part, slot: Slot, gzip: GzipCheck | None = None
) -> str:
    """Read a range of the target's object back for its MD5; ``gzip`` is fed with it, once, however many tries it takes."""

    async def once(fresh: bool) -> str:
        fed = gzip.copy() if gzip else None
        async with mirror.target.read(dest_key, version_id, part, fresh=fresh) as incoming:
            relay = Relay(incoming, part.length, mirror.bandwidth, Side.TARGET)
            await relay.hashing().drain(fed.feed if fed else None)
        if gzip and fed:
            gzip.become(fed)
        return relay.md5 or ""

    return await tried(mirror, slot, part.length, once)


def agrees(receipt: Receipt) -> bool:
    """Whether the target's ETag is the MD5 of what we sent (true where we did not hash)."""
    return receipt.md5 is None or md5_form(receipt.etag) == receipt.md5


def mismatch(what: str) -> RemoteError:
    return RemoteError(Side.TARGET, Kind.MISMATCH, what)


@contextmanager
def shown(mirror: Mirror, claim: Claim, relay: Relay, *, again: bool) -> Iterator[None]:
    """Let those who watch see the bytes that are on their way, for the first time or ``again``."""
    entry = mirror.in_flight.get(claim.key)
    if entry is None:
        yield
        return
    entry.relays.add(relay)
    if again or entry.is_sent_again:
        entry.again.add(relay)
    try:
        with mirror.meters.sending(claim.dataset, relay):
            yield
    finally:
        entry.relays.discard(relay)
        entry.again.discard(relay)
