"""One file, from claim to proof: look at what is there, split, get, put, prove, complete."""

from __future__ import annotations

from polyb2.core.compare import Adoption, adoption
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import OBJECT_BYTES_MAX, fits_target, plan_parts
from polyb2.core.proof import Verification, composite_parts
from polyb2.core.records import Claim, Mirrored, PartProof, StoredObject, StoredPart, Upload
from polyb2.core.recovery import Finding, assess, confirmed
from polyb2.core.units import format_size
from polyb2.flow.lanes import OpaqueTargetError
from polyb2.flow.mirror import Mirror
from polyb2.flow.multipart import compare_stored, continue_upload, note_refused, send_multipart
from polyb2.flow.publish import find_published
from polyb2.flow.readback import equals_source
from polyb2.flow.recover import abort_abandoned, abort_strangers, give_up, look
from polyb2.flow.refusals import UploadRefusedError
from polyb2.flow.single import can_be_single, send_single
from polyb2.flow.stream import mismatch
from polyb2.flow.streams import Slot


async def transfer(mirror: Mirror, claim: Claim, slot: Slot) -> tuple[Mirrored, int]:
    """Make the target hold the claim's revision; what it holds, and the bytes sent that have no receipt.

    Raises:
        RemoteError: of either side, after all tries.
        DrainedError: the process stops.
        LeaseLostError: the claim is another's.
    """
    _check_size(claim.revision.size)
    if not claim.is_first and (mirrored := await _after_others(mirror, claim, slot)):
        return mirrored, 0
    source_part_bytes = await _source_part_bytes(mirror, claim)
    plan = plan_parts(
        claim.revision.size,
        streams=mirror.streams.total,
        source_part_bytes=source_part_bytes,
        wanted=mirror.part_bytes,
    )
    if plan.count == 1 and can_be_single(claim):
        return await send_single(mirror, claim, slot), claim.revision.size
    return await send_multipart(mirror, claim, plan, source_part_bytes, slot), 0


def _check_size(size: int) -> None:
    """A size that the source told; beyond what an object may have, nothing is begun, planned or asked for."""
    if not fits_target(size):
        limit = format_size(OBJECT_BYTES_MAX)
        raise RemoteError(Side.SOURCE, Kind.TOO_LARGE, f"the listed size, {size} bytes, is beyond the target's {limit}")


async def _source_part_bytes(mirror: Mirror, claim: Claim) -> int | None:
    """The part size of the source's composite ETag, which proves an upload cut the same way."""
    parts = composite_parts(claim.revision.etag)
    if parts is None or parts == 1:
        return None
    return await mirror.source.own_part_bytes(claim.key, claim.revision, parts)


async def _after_others(mirror: Mirror, claim: Claim, slot: Slot) -> Mirrored | None:
    """What earlier attempts left is settled, continued or aborted; None if the file is to be sent from the beginning.

    A new revision is a new attempt and no takeover: where no attempt at it was made, no object can have its token, and where
    the last attempt completed the file, no Create can have been lost. Nothing is asked then.
    """
    await abort_abandoned(mirror, claim.file_id)
    if claim.earlier_tokens and (mirrored := await _go_on(mirror, claim, slot)):
        return mirrored
    if not claim.follows_completion:
        await abort_strangers(mirror, mirror.dest_key(claim), None)
    return None


async def _go_on(mirror: Mirror, claim: Claim, slot: Slot) -> Mirrored | None:
    """Settle or continue what an earlier attempt at this revision began; None if nothing of it is of use."""
    traces = await look(mirror, claim)
    finding = assess(claim, traces)
    stored = traces.stored
    if finding is Finding.WAIT and claim.upload:
        stored = await _wait_for(mirror, claim, claim.upload, slot)
        finding = Finding.LANDED if stored else Finding.START
    if finding is Finding.LANDED and stored:
        return await _settle_landed(mirror, claim, stored, slot)
    if finding is Finding.RESUME and claim.upload:
        mirrored = await _resume(mirror, claim, claim.upload, traces.parts or (), slot)
        if mirrored is not None:
            return mirrored
    elif claim.upload:
        await give_up(mirror, claim)
    return None


async def _wait_for(mirror: Mirror, claim: Claim, upload: Upload, slot: Slot) -> StoredObject | None:
    """An earlier attempt sent Complete, and the upload is gone: keep looking for minutes, without a slot."""
    slot.release()
    doubt = RemoteError(Side.TARGET, Kind.NO_SUCH_UPLOAD, "a Complete was sent and its answer never seen")
    try:
        stored = await find_published(mirror, claim, upload, still_open=doubt)
    except RemoteError as error:
        if error.kind is not Kind.NO_SUCH_UPLOAD:
            raise
        stored = None
    await slot.rest(0)
    return stored


async def _resume(
    mirror: Mirror, claim: Claim, upload: Upload, parts: tuple[StoredPart, ...], slot: Slot
) -> Mirrored | None:
    receipts = confirmed(claim.receipts, parts)
    dropped = {receipt.part.number for receipt in claim.receipts} - {receipt.part.number for receipt in receipts}
    if dropped:
        await mirror.ledger.drop_receipts(claim, upload, dropped)
    await abort_strangers(mirror, upload.dest_key, upload.upload_id)
    try:
        return await continue_upload(mirror, claim, upload, receipts, slot)
    except OpaqueTargetError:
        await mirror.note_opaque(opaque=True)
    except UploadRefusedError as refused:
        note_refused(mirror, claim, refused)
    except RemoteError as error:
        if error.kind is not Kind.NO_SUCH_UPLOAD:
            raise
    await slot.rest(0)
    await give_up(mirror, claim)
    return None


async def _settle_landed(mirror: Mirror, claim: Claim, stored: StoredObject, slot: Slot) -> Mirrored:
    """The object is there with our token: prove it as the attempt that sent it would have."""
    upload = claim.upload
    if upload is not None and stored.stamp.token == upload.token:
        if upload.proof is PartProof.READBACK:
            await compare_stored(mirror, claim, upload, stored, claim.receipts, slot)
            return Mirrored(stored.etag, stored.version_id, Verification.READBACK)
        return Mirrored(stored.etag, stored.version_id, Verification(upload.proof.value))
    match adoption(claim.revision.etag, claim.revision.size, stored):
        case Adoption.AS_ETAG:
            verification = Verification.ETAG
        case Adoption.AS_PARTS:
            verification = Verification.PARTS
        case _:
            if not await equals_source(mirror, claim.key, claim.revision, stored, slot):
                raise mismatch("what an earlier attempt left is not the source's file; it is sent again")
            verification = Verification.READBACK
    return Mirrored(stored.etag, stored.version_id, verification)
