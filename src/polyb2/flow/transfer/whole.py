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
    try:
        stored, sent = await _put(attempt, md5)
    except RemoteError as error:
        if md5 is None or error.kind is not Kind.BAD_DIGEST:
            raise
        stored, sent = await _put(attempt, await agreed_md5(attempt, md5))
    return await prove_whole(attempt, stored, sent)


async def _put(attempt: Attempt, md5: str | None) -> tuple[StoredObject, str]:
    """Pass the body through, a very short one in one piece, and its MD5 ahead of it: ours where none is given."""
    mirror, claim, size = attempt.mirror, attempt.claim, attempt.claim.revision.size
    stamp = attempt.stamp(ProofMark.READBACK if mirror.part_etags.are_opaque else ProofMark.BEFORE)

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
