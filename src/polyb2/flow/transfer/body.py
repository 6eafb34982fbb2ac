"""One body transfer: a GET joined to one PUT, or hashed; retried by the one policy, without a slot while it waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from polyb2.core.errors import RemoteError, Side
from polyb2.core.integrity import GzipCheck
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.parts import STREAM_BUFFER_BYTES, Part
from polyb2.core.records import Receipt, Revision, StoredObject
from polyb2.core.stamp import Stamp
from polyb2.flow.mirror import InFlight, Mirror
from polyb2.flow.run.slots import Slot
from polyb2.remote.relay import Relay
from polyb2.remote.retries import Tries

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt

log = logging.getLogger(__name__)
T = TypeVar("T")


async def tried(
    mirror: Mirror,
    slot: Slot,
    length: int,
    once: Callable[[bool], Awaitable[T]],
    progress: InFlight | None = None,
) -> T:
    """Run ``once``, which moves ``length`` bytes, until it succeeds or the policy says stop.

    ``once`` gets True after a failure, and then uses a new connection. ``progress`` is that of the file which is sent.

    Raises:
        RemoteError: of either side, after all tries.
        DrainedError: the process stops.
    """
    tries = Tries(mirror.target.guard.policy, mirror.meters)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        try:
            async with mirror.slots.limit.passage(length) as has_waited:
                if has_waited:
                    mirror.check_draining()
                return await once(tries.failures > 0)
        except RemoteError as error:
            delay_s = tries.delay_s(error)
            if progress is not None and loop.time() - began_s > mirror.timing.refusal_logged_s:
                _log_refusal(progress, error)
        mirror.check_draining()
        await slot.rest(delay_s)


def _log_refusal(progress: InFlight, error: RemoteError) -> None:
    """Log the lack of progress and its cause, once in an attempt."""
    if progress.is_refusal_logged:
        return
    progress.is_refusal_logged = True
    extra = log_fields(LogEvent.REQUEST_RETRIED, key=progress.key, side=error.side, reason=error.kind)
    words = "%s: the %s refuses parts of it: %s; they are tried again"
    log.warning(words, progress.key, error.side, error.found, extra=extra)


async def send_part(attempt: Attempt, part: Part, slot: Slot, *, hashed: bool) -> Receipt:
    """Transfer one part; the receipt is not in the ledger yet.

    Raises:
        RemoteError: of either side, after all tries.
    """
    mirror, claim, upload = attempt.mirror, attempt.claim, attempt.own_upload

    async def once(fresh: bool) -> Receipt:
        async with mirror.source.read(
            claim.key, claim.revision, part, fresh=fresh, onward=mirror.target.bucket
        ) as incoming:
            relay = Relay(incoming, part.length, mirror.bandwidth)
            if hashed:
                relay.hashing()
            with (
                attempt.progress.carrying(relay, again=fresh),
                mirror.meters.sending(claim.dataset, relay),
                attempt.refusals.counted(),
            ):
                etag = await mirror.target.put_part(upload, part, relay, fresh=fresh)
            return Receipt(part, etag, relay.md5)

    return await tried(mirror, slot, part.length, once, attempt.progress)


async def put_whole(attempt: Attempt, md5: str | None, stamp: Stamp) -> tuple[StoredObject, str]:
    """Transfer a whole file in one PUT, which the target refuses if a byte is wrong; return what it stored, and the MD5.

    The MD5 is sent ahead of the body: the given one, else our own of a body that fits into the stream's buffer.

    Raises:
        RemoteError: of either side, after all tries.
    """
    mirror, claim, size = attempt.mirror, attempt.claim, attempt.claim.revision.size

    async def once(fresh: bool) -> tuple[StoredObject, str]:
        async with mirror.source.read(
            claim.key, claim.revision, None, fresh=fresh, onward=mirror.target.bucket
        ) as incoming:
            relay = Relay(incoming, size, mirror.bandwidth)
            if md5 is None:
                relay.hashing()
            with attempt.progress.carrying(relay, again=fresh), mirror.meters.sending(claim.dataset, relay):
                if size <= STREAM_BUFFER_BYTES:
                    await relay.collect()
                sent = md5 or relay.md5 or ""
                return await mirror.target.put(attempt.dest_key, relay, size, sent, stamp, fresh=fresh), sent

    return await tried(mirror, attempt.slot, size, once, attempt.progress)


async def hash_source(mirror: Mirror, slot: Slot, key: str, revision: Revision, part: Part | None) -> str:
    """Read a part of the source (None: all of it) for its MD5 alone."""
    length = revision.size if part is None else part.length

    async def once(fresh: bool) -> str:
        async with mirror.source.read(key, revision, part, fresh=fresh) as incoming:
            relay = Relay(incoming, length, mirror.bandwidth)
            await relay.hashing().drain()
            return relay.md5 or ""

    return await tried(mirror, slot, length, once)


async def hash_stored(
    mirror: Mirror, slot: Slot, dest_key: str, version_id: str | None, part: Part, gzip: GzipCheck | None = None
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
