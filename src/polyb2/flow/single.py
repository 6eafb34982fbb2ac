"""A small file in one GET and one PUT, refused by the target itself if a byte is wrong.

The MD5 must be known before the PUT: it is the source's ETag where that has the form of one, else our own if the body fits
into the stream's buffer. A file of neither kind goes as a multipart of one part.
"""

from __future__ import annotations

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.parts import STREAM_BUFFER_BYTES
from polyb2.core.proof import ProofMark, Verification, composite, md5_form
from polyb2.core.records import Claim, Mirrored, StoredObject
from polyb2.core.recovery import is_ours
from polyb2.flow.mirror import Mirror, stamp_of, whole
from polyb2.flow.stream import hash_source, hash_stored, mismatch, shown, tried
from polyb2.flow.streams import Slot
from polyb2.remote.relay import Relay


def can_be_single(claim: Claim) -> bool:
    """Whether the MD5 of the body can be had before it is sent."""
    return md5_form(claim.revision.etag) is not None or claim.revision.size <= STREAM_BUFFER_BYTES


async def send_single(mirror: Mirror, claim: Claim, slot: Slot) -> Mirrored:
    """Carry a small file over and prove it.

    Raises:
        RemoteError: of either side, after all tries; ``mismatch`` if what is stored is not what was sent.
    """
    expected = md5_form(claim.revision.etag)
    if expected is None:
        stored, md5 = await _put_buffered(mirror, claim, slot)
        is_source_etag = composite([md5]) == claim.revision.etag
        return await _prove(
            mirror, claim, slot, stored, md5, Verification.ETAG if is_source_etag else Verification.PARTS
        )
    try:
        stored = await _put_streamed(mirror, claim, slot, expected)
    except RemoteError as error:
        if error.kind is not Kind.BAD_DIGEST:
            raise
        md5 = await _md5_afresh(mirror, claim, slot, expected)
        stored = await _put_streamed(mirror, claim, slot, md5)
        if md5 != expected:
            return await _prove(mirror, claim, slot, stored, md5, Verification.PARTS)
    return await _prove(mirror, claim, slot, stored, expected, Verification.ETAG)


async def _put_streamed(mirror: Mirror, claim: Claim, slot: Slot, md5: str) -> StoredObject:
    """Pass the body through, the shortest ones in one piece; the target compares it with ``md5``."""
    size, stamp = claim.revision.size, stamp_of(claim, _mark(mirror))

    async def once(fresh: bool) -> StoredObject:
        async with mirror.source.read(
            claim.key, claim.revision, None, fresh=fresh, onward=mirror.target.guard
        ) as incoming:
            relay = Relay(incoming, size, mirror.bandwidth)
            with shown(mirror, claim, relay, again=fresh):
                if size <= STREAM_BUFFER_BYTES:
                    await relay.collect()
                return await mirror.target.put(mirror.dest_key(claim), relay, size, md5, stamp, fresh=fresh)

    return await tried(mirror, slot, size, once, claim.key)


async def _put_buffered(mirror: Mirror, claim: Claim, slot: Slot) -> tuple[StoredObject, str]:
    """Read the whole small body, hash it, send it."""
    size, stamp = claim.revision.size, stamp_of(claim, _mark(mirror))

    async def once(fresh: bool) -> tuple[StoredObject, str]:
        async with mirror.source.read(
            claim.key, claim.revision, None, fresh=fresh, onward=mirror.target.guard
        ) as incoming:
            relay = Relay(incoming, size, mirror.bandwidth).hashing()
            await relay.collect()
            mirror.meters.read_bytes[claim.dataset] += relay.seen
            md5 = relay.md5 or ""
            return await mirror.target.put(mirror.dest_key(claim), relay, size, md5, stamp, fresh=fresh), md5

    return await tried(mirror, slot, size, once, claim.key)


async def _md5_afresh(mirror: Mirror, claim: Claim, slot: Slot, expected: str) -> str:
    """After a refusal: the MD5 to send with. Two reads that agree with each other and not with the ETag outvote it."""
    first = await hash_source(mirror, claim.key, claim.revision, None, slot)
    if first == expected:
        return expected
    second = await hash_source(mirror, claim.key, claim.revision, None, slot)
    if first != second:
        raise mismatch("three reads of the source gave three different bodies")
    return first


async def _prove(
    mirror: Mirror, claim: Claim, slot: Slot, stored: StoredObject, md5: str, proven: Verification
) -> Mirrored:
    if stored.etag == md5 and claim.is_first:
        await mirror.note_opaque(opaque=False)
        return Mirrored(stored.etag, stored.version_id, proven)
    # After a takeover or a new revision an older PUT may have landed late, and an answer's ETag may be bent: HEAD decides.
    dest_key = mirror.dest_key(claim)
    current = await mirror.target.head(dest_key)
    if current is None or not is_ours(claim, current):
        raise mismatch("another version than ours is current; it is sent again")
    await mirror.note_opaque(opaque=current.etag != md5)
    if current.etag == md5:
        return Mirrored(current.etag, current.version_id, proven)
    # The target's ETags are no MD5s: only reading back tells.
    if await hash_stored(mirror, dest_key, current.version_id, whole(claim.revision.size), slot) != md5:
        if current.version_id:
            await mirror.target.delete_version(dest_key, current.version_id)
        raise mismatch("what was read back is not what was sent; that version was removed")
    return Mirrored(current.etag, current.version_id, Verification.READBACK)


def _mark(mirror: Mirror) -> ProofMark:
    return ProofMark.READBACK if mirror.opaque_etags else ProofMark.BEFORE
