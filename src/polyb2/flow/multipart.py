"""A large file as a multipart upload: parts in parallel, receipts durable one by one, proof before Complete.

Part 1 is always hashed: if the target's ETag of it is not its MD5, twice, the target's part ETags prove nothing, and the
upload begins anew as ``readback``. The other parts are hashed where the source's composite ETag cannot prove them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from polyb2.core.errors import Kind, LeaseLostError, RemoteError
from polyb2.core.logevents import LogEvent, told
from polyb2.core.parts import PartPlan
from polyb2.core.proof import ProofMark, Verification, composite, composite_parts
from polyb2.core.records import Claim, Mirrored, PartProof, Receipt, StoredObject, Upload
from polyb2.flow.lanes import OpaqueTargetError, send_missing
from polyb2.flow.mirror import Mirror, stamp_of
from polyb2.flow.publish import publish
from polyb2.flow.recover import abort_strangers, give_up
from polyb2.flow.refusals import UPLOADS_MAX, Refusals, UploadRefusedError
from polyb2.flow.stream import agrees, hash_source, hash_stored, mismatch
from polyb2.flow.streams import Slot

log = logging.getLogger(__name__)
RECORD_WITHIN_S = 2.0
"""For how long a stopping process waits for the answer to a Create, which names what would be left behind."""


async def send_multipart(
    mirror: Mirror, claim: Claim, plan: PartPlan, source_part_bytes: int | None, slot: Slot
) -> Mirrored:
    """Carry a file over in parts, from the beginning.

    Args:
        mirror: the shared state.
        claim: the file.
        plan: its parts.
        source_part_bytes: the part size of the source's composite ETag, where known.
        slot: the slot it was claimed with.
    """
    begun = 0
    while True:
        begun += 1
        is_last = begun >= UPLOADS_MAX
        upload = await _begin(mirror, claim, plan, _proof(mirror, claim, plan, source_part_bytes))
        try:
            return await continue_upload(mirror, claim, upload, (), slot, is_last=is_last)
        except OpaqueTargetError:
            await mirror.note_opaque(opaque=True)
        except UploadRefusedError as refused:
            note_refused(mirror, claim, refused)
        except RemoteError as error:
            # Aborted behind our back, or completed without effect.
            if error.kind is not Kind.NO_SUCH_UPLOAD or is_last:
                raise
        await give_up(mirror, claim)
        await slot.rest(0)


def note_refused(mirror: Mirror, claim: Claim, refused: UploadRefusedError) -> None:
    """An upload is given up because of the target's refusals: one line, and no progress by what is sent again."""
    if entry := mirror.in_flight.get(claim.key):
        entry.is_sent_again = True
    extra = told(LogEvent.UPLOAD_REFUSED, key=claim.key, reason=refused.error.kind, attempt=claim.attempt)
    words = "%s: the target refuses this upload again and again; it is aborted, and another one begun: %s"
    log.warning(words, claim.key, refused.error.found, extra=extra)


async def continue_upload(
    mirror: Mirror, claim: Claim, upload: Upload, receipts: Iterable[Receipt], slot: Slot, *, is_last: bool = False
) -> Mirrored:
    """Send the parts that have no receipt, prove the whole, publish it; ``is_last``: no upload is begun in its place.

    Raises:
        OpaqueTargetError: the upload has to begin anew as ``readback``.
        UploadRefusedError: the target refuses this upload; another one may do.
    """
    done = {receipt.part.number: receipt for receipt in receipts}
    refusals = Refusals(mirror, done, is_last=is_last)
    try:
        return await _finish(mirror, claim, upload, done, refusals, slot)
    except RemoteError as error:
        raise refusals.verdict(error) from None


async def _finish(
    mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals, slot: Slot
) -> Mirrored:
    await send_missing(mirror, claim, upload, done, refusals, slot)
    if upload.proof is PartProof.READBACK:
        return await _prove_by_readback(mirror, claim, upload, done, refusals, slot)
    verification = await _prove(mirror, claim, upload, done, refusals, slot)
    stored = await publish(mirror, claim, upload, _ordered(done), refusals)
    if any(receipt.md5 for receipt in done.values()):
        await mirror.note_opaque(opaque=False)
    return Mirrored(stored.etag, stored.version_id, verification)


async def _begin(mirror: Mirror, claim: Claim, plan: PartPlan, proof: PartProof) -> Upload:
    """Create the upload and put it on record; who is cancelled meanwhile waits a little for that, so that none is lost."""
    created = asyncio.create_task(_create(mirror, claim, plan, proof), name=f"create {claim.key}")
    try:
        await asyncio.wait([created])
    except asyncio.CancelledError:
        await asyncio.wait([created], timeout=RECORD_WITHIN_S)
        if created.done() and not created.cancelled():
            created.exception()  # looked at: the cancellation is what counts
        raise
    finally:
        created.cancel()
    upload = created.result()
    await abort_strangers(mirror, upload.dest_key, upload.upload_id)
    return upload


async def _create(mirror: Mirror, claim: Claim, plan: PartPlan, proof: PartProof) -> Upload:
    mark = ProofMark.READBACK if proof is PartProof.READBACK else ProofMark.BEFORE
    dest_key = mirror.dest_key(claim)
    upload_id = await mirror.target.create(dest_key, stamp_of(claim, mark))
    try:
        return await mirror.ledger.begin_upload(claim, dest_key, upload_id, plan, proof)
    except LeaseLostError:
        await mirror.ledger.disown_upload(claim, dest_key, upload_id, plan, proof)
        raise


def _proof(mirror: Mirror, claim: Claim, plan: PartPlan, source_part_bytes: int | None) -> PartProof:
    if mirror.opaque_etags:
        return PartProof.READBACK
    is_cut_alike = plan.part_bytes == source_part_bytes
    is_one_part = plan.count == 1 and composite_parts(claim.revision.etag) == 1
    return PartProof.ETAG if is_cut_alike or is_one_part else PartProof.PARTS


def _ordered(done: dict[int, Receipt]) -> list[Receipt]:
    return [done[number] for number in sorted(done)]


# -- proof ------------------------------------------------------------------------------------------------------------


async def _prove(
    mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals, slot: Slot
) -> Verification:
    """The proof that comes before publishing."""
    if sum(receipt.part.length for receipt in done.values()) != claim.revision.size:
        raise mismatch("the parts do not add up to the file's size")
    if upload.proof is PartProof.PARTS:
        if not all(receipt.md5 and agrees(receipt) for receipt in done.values()):
            raise mismatch("a part was not proven by its MD5")
        return Verification.PARTS
    if _composite_is_source(claim, done):
        return Verification.ETAG
    await _repair(mirror, claim, upload, done, refusals, slot)
    if _composite_is_source(claim, done):
        return Verification.ETAG
    # Every part's MD5 is now that of what the source sends: the composite was believed to be what it is not.
    await mirror.ledger.note_proof(claim, upload, PartProof.PARTS)
    return Verification.PARTS


def _composite_is_source(claim: Claim, done: dict[int, Receipt]) -> bool:
    return composite([receipt.etag for receipt in _ordered(done)]) == claim.revision.etag


async def _repair(
    mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals, slot: Slot
) -> None:
    """Read the source's ranges again and hash them; send again only the parts that differ.

    Also those that were hashed on their way: a byte that changed before it came here is in that hash as well.
    """
    await slot.rest(0)
    differing: list[int] = []
    for receipt in _ordered(done):
        mirror.check_draining()
        md5 = await hash_source(mirror, claim.key, claim.revision, receipt.part, slot)
        if md5 == receipt.etag:
            done[receipt.part.number] = replace(receipt, md5=md5)
        else:
            differing.append(receipt.part.number)
    if not differing:
        return
    await mirror.ledger.drop_receipts(claim, upload, differing)
    for number in differing:
        del done[number]
    hashed = replace(upload, proof=PartProof.PARTS)
    await send_missing(mirror, claim, hashed, done, refusals, slot)


async def _prove_by_readback(
    mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals, slot: Slot
) -> Mirrored:
    """Publish, read the object back part by part, compare with the hashes taken on arrival."""
    stored = await publish(mirror, claim, upload, _ordered(done), refusals)
    await slot.rest(0)
    await compare_stored(mirror, claim, upload, stored, _ordered(done), slot)
    if all(agrees(receipt) for receipt in done.values()):
        # The target's part ETags are MD5s after all.
        await mirror.note_opaque(opaque=False)
    return Mirrored(stored.etag, stored.version_id, Verification.READBACK)


async def compare_stored(
    mirror: Mirror, claim: Claim, upload: Upload, stored: StoredObject, receipts: Iterable[Receipt], slot: Slot
) -> None:
    """Compare a published object with the hashes of its parts; a version of ours that differs is removed.

    Its upload is given up as well: the next attempt would look for that object for minutes.

    Raises:
        RemoteError: ``mismatch``.
    """
    for receipt in receipts:
        md5 = await hash_stored(mirror, upload.dest_key, stored.version_id, receipt.part, slot)
        if md5 != receipt.md5:
            if stored.version_id:
                await mirror.target.delete_version(upload.dest_key, stored.version_id)
            await give_up(mirror, claim)
            raise mismatch(f"part {receipt.part.number} read back is not what was sent; that version was removed")
