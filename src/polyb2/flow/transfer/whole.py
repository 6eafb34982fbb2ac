"""A small file in one GET and one PUT, which the target itself refuses if a byte is wrong.

The MD5 must be known before the PUT: it is the source's ETag where that has the form of one, else our own if the body fits
into the stream's buffer. A file of neither kind goes as a multipart of one part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.integrity import ProofMark, md5_form
from polyb2.core.parts import STREAM_BUFFER_BYTES
from polyb2.core.records import Mirrored, StoredObject
from polyb2.core.stamp import Stamp
from polyb2.flow.transfer.body import tried
from polyb2.flow.transfer.proof import agreed_md5, prove_whole
from polyb2.remote.relay import Relay

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt


async def send_whole(attempt: Attempt) -> Mirrored:
    """Transfer a small file and prove it.

    Raises:
        RemoteError: of either side, after all tries; ``mismatch`` if what is stored is not what was sent.
    """
    md5 = md5_form(attempt.claim.revision.etag)
    if md5 is None:
        stored, md5 = await _put_buffered(attempt)
        return await prove_whole(attempt, stored, md5)
    try:
        stored = await _put_streamed(attempt, md5)
    except RemoteError as error:
        if error.kind is not Kind.BAD_DIGEST:
            raise
        md5 = await agreed_md5(attempt, md5)
        stored = await _put_streamed(attempt, md5)
    return await prove_whole(attempt, stored, md5)


async def _put_streamed(attempt: Attempt, md5: str) -> StoredObject:
    """Pass the body through, a very short one in one piece; the target compares it with ``md5``."""
    mirror, claim, size, stamp = attempt.mirror, attempt.claim, attempt.claim.revision.size, _stamp(attempt)

    async def once(fresh: bool) -> StoredObject:
        async with mirror.source.read(
            claim.key, claim.revision, None, fresh=fresh, onward=mirror.target.bucket
        ) as incoming:
            relay = Relay(incoming, size, mirror.bandwidth)
            with attempt.progress.carrying(relay, again=fresh), mirror.meters.sending(claim.dataset, relay):
                if size <= STREAM_BUFFER_BYTES:
                    await relay.collect()
                return await mirror.target.put(attempt.dest_key, relay, size, md5, stamp, fresh=fresh)

    return await tried(mirror, attempt.slot, size, once, attempt.progress)


async def _put_buffered(attempt: Attempt) -> tuple[StoredObject, str]:
    """Read the whole small body, hash it, send it."""
    mirror, claim, size, stamp = attempt.mirror, attempt.claim, attempt.claim.revision.size, _stamp(attempt)

    async def once(fresh: bool) -> tuple[StoredObject, str]:
        async with mirror.source.read(
            claim.key, claim.revision, None, fresh=fresh, onward=mirror.target.bucket
        ) as incoming:
            relay = Relay(incoming, size, mirror.bandwidth).hashing()
            await relay.collect()
            mirror.meters.read_bytes[claim.dataset] += relay.seen
            md5 = relay.md5 or ""
            return await mirror.target.put(attempt.dest_key, relay, size, md5, stamp, fresh=fresh), md5

    return await tried(mirror, attempt.slot, size, once, attempt.progress)


def _stamp(attempt: Attempt) -> Stamp:
    return attempt.stamp(ProofMark.READBACK if attempt.mirror.part_etags.are_opaque else ProofMark.BEFORE)
