"""The rules by which a file that was sent counts as proven: one PUT, parts before publishing, what is published.

Rules that others share, or that guard a request, are elsewhere: ``core/integrity.py`` (the forms of ETags),
``core/compare.py`` (``adoption``: an object that is equal by its listing or its marks), ``core/recovery.py`` (``is_ours``: an
earlier attempt's object; ``confirmed``: the receipts that count), ``remote/polygon.py`` (a range is of the claimed revision).

Invariant: nothing is completed that is not proven by one of these rules, and the proof comes before publishing
(``readback`` alone comes after). Only a version with the token of this attempt, or of an earlier one at the same revision, is
removed, by its id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from polyb2.core.compare import Adoption, adoption
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.integrity import GzipCheck, Verification, composite, composite_parts, md5_form
from polyb2.core.parts import AUTOMATIC_MAX, STREAM_BUFFER_BYTES, Part, PartPlan, single_part
from polyb2.core.records import Mirrored, PartProof, Receipt, Revision, StoredObject, Upload
from polyb2.core.recovery import is_ours
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.body import hash_source, hash_stored

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt


class OpaqueTargetError(Exception):
    """The target's ETag of part 1 was not its MD5, twice: its part ETags prove nothing."""


def mismatch(found: str) -> RemoteError:
    """The error of bytes that are not what they should be: never completed, tried again."""
    return RemoteError(Side.TARGET, Kind.MISMATCH, found)


# -- one PUT ----------------------------------------------------------------------------------------------------------


def can_be_whole(revision: Revision) -> bool:
    """Tell if the MD5 of the body can be known before it is sent: the ETag's, or our own if the body fits a buffer."""
    return md5_form(revision.etag) is not None or revision.size <= STREAM_BUFFER_BYTES


def whole_verification(revision: Revision, md5: str) -> Verification:
    """The proof of a body that the target checked against this MD5.

    ``etag`` if the source's ETag is that MD5 or its composite of one part (md5(MD5)-1), else ``parts``.
    """
    return Verification.ETAG if revision.etag in {md5, composite([md5])} else Verification.PARTS


async def agreed_md5(attempt: Attempt, expected: str) -> str:
    """The MD5 to send with after a refusal: if two reads agree with each other but not with the ETag, the reads win."""
    first = await _hash_whole(attempt)
    if first == expected:
        return expected
    second = await _hash_whole(attempt)
    if first != second:
        raise mismatch("three reads of the source gave three different bodies")
    return first


async def prove_whole(attempt: Attempt, stored: StoredObject, md5: str) -> Mirrored:
    """Prove a single PUT by the ETag that the target answered, by HEAD, or by reading it back.

    Raises:
        RemoteError: ``mismatch``: what is stored is not what was sent.
    """
    verification = whole_verification(attempt.claim.revision, md5)
    if stored.etag == md5 and attempt.claim.is_first:
        await attempt.mirror.part_etags.note(are_opaque=False)
        return Mirrored(stored.etag, stored.version_id, verification)
    # After a takeover or a new revision an older PUT may have landed late, and an answer's ETag may be altered: HEAD decides.
    current = await attempt.mirror.target.head(attempt.dest_key)
    if current is None or not is_ours(attempt.claim, current):
        raise mismatch("a version other than ours is current; the file is sent again")
    await attempt.mirror.part_etags.note(are_opaque=current.etag != md5)
    if current.etag == md5:
        return Mirrored(current.etag, current.version_id, verification)
    # The target's ETags are not MD5s: only reading back can tell.
    part = single_part(attempt.claim.revision.size)
    if await _hash_back(attempt, current, part) != md5:
        await _remove_ours(attempt, current)
        raise mismatch("what was read back is not what was sent; that version was removed")
    return Mirrored(current.etag, current.version_id, Verification.READBACK)


# -- multipart, before publishing -------------------------------------------------------------------------------------


def part_proof(revision: Revision, plan: PartPlan, source_part_bytes: int | None, *, is_opaque: bool) -> PartProof:
    """The rule by which the parts of a new upload are proven; it is stored with the upload.

    ``etag`` only where the parts are cut as the source's own were; ``readback`` where the target's part ETags are not MD5s.
    """
    if is_opaque:
        return PartProof.READBACK
    is_cut_alike = plan.part_bytes == source_part_bytes
    is_one_part = plan.count == 1 and composite_parts(revision.etag) == 1
    return PartProof.ETAG if is_cut_alike or is_one_part else PartProof.PARTS


def is_hashed(upload: Upload, part: Part) -> bool:
    """Tell if a part is hashed on its way: part 1 always, as it shows what the target's ETags are worth."""
    return part.number == 1 or upload.proof is not PartProof.ETAG


def check_part(upload: Upload, receipt: Receipt, *, is_second_try: bool) -> bool:
    """Tell if the target's ETag of a part is good; one that is not is sent once more.

    Raises:
        OpaqueTargetError: it is not that of part 1 the second time either: the upload starts again as ``readback``.
        RemoteError: ``mismatch``, of another part.
    """
    if upload.proof is PartProof.READBACK or _etag_matches(receipt):
        return True
    if is_second_try and receipt.part.number == 1:
        raise OpaqueTargetError
    if is_second_try:
        raise mismatch(f"the target's ETag of part {receipt.part.number} is not the MD5 of what was sent, twice")
    return False


async def prove_parts(attempt: Attempt) -> Verification:
    """Prove a whole upload before it is published: sizes add up, and every part's bytes are the source's.

    Raises:
        RemoteError: ``mismatch``.
    """
    if sum(receipt.part.length for receipt in attempt.receipts.values()) != attempt.claim.revision.size:
        raise mismatch("the parts do not add up to the file's size")
    if attempt.own_upload.proof is PartProof.PARTS:
        if not all(receipt.md5 and _etag_matches(receipt) for receipt in attempt.receipts.values()):
            raise mismatch("a part was not proven by its MD5")
        return Verification.PARTS
    if _composite_is_source(attempt):
        return Verification.ETAG
    await _repair(attempt)
    if _composite_is_source(attempt):
        return Verification.ETAG
    # Every part's MD5 is now that of the source's bytes: the composite ETag was read wrongly.
    await attempt.mirror.ledger.note_proof(attempt.claim, attempt.own_upload, PartProof.PARTS)
    return Verification.PARTS


async def note_part_etags(attempt: Attempt) -> None:
    """Remember that the target's part ETags are MD5s, where a part was hashed and published."""
    if any(receipt.md5 for receipt in attempt.receipts.values()):
        await attempt.mirror.part_etags.note(are_opaque=False)


async def _repair(attempt: Attempt) -> None:
    """Read the source's ranges again and hash them; send again only the parts that differ.

    Also those that were hashed on their way: a byte that changed before it arrived is in that hash as well.
    """
    await attempt.slot.rest(0)
    differing: list[int] = []
    for receipt in attempt.ordered_receipts:
        attempt.mirror.check_draining()
        md5 = await hash_source(attempt.mirror, attempt.slot, attempt.claim.key, attempt.claim.revision, receipt.part)
        if md5 == receipt.etag:
            attempt.receipts[receipt.part.number] = replace(receipt, md5=md5)
        else:
            differing.append(receipt.part.number)
    if differing:
        await attempt.send_again(differing)


def _composite_is_source(attempt: Attempt) -> bool:
    return composite([receipt.etag for receipt in attempt.ordered_receipts]) == attempt.claim.revision.etag


def _etag_matches(receipt: Receipt) -> bool:
    """Tell if the target's ETag is the MD5 of the bytes sent (true if they were not hashed)."""
    return receipt.md5 is None or md5_form(receipt.etag) == receipt.md5


# -- after publishing -------------------------------------------------------------------------------------------------


async def prove_published(attempt: Attempt, stored: StoredObject) -> Verification:
    """Read a published object back and compare it with the hashes taken on arrival.

    Raises:
        RemoteError: ``mismatch``; that version of ours is removed and its upload given up, else the next attempt would spend
            minutes looking for the object.
    """
    await _compare_published(attempt, stored, attempt.ordered_receipts)
    if all(_etag_matches(receipt) for receipt in attempt.receipts.values()):
        # The target's part ETags are MD5s after all.
        await attempt.mirror.part_etags.note(are_opaque=False)
    return Verification.READBACK


async def prove_landed(attempt: Attempt, stored: StoredObject) -> Mirrored:
    """Prove an object that an earlier attempt published, as that attempt would have.

    Raises:
        RemoteError: ``mismatch``: it is sent again.
    """
    upload = attempt.claim.upload
    if upload is not None and stored.stamp.token == upload.token:
        if upload.proof is PartProof.READBACK:
            await _compare_published(attempt, stored, attempt.claim.receipts)
        return Mirrored(stored.etag, stored.version_id, Verification(upload.proof.value))
    return Mirrored(stored.etag, stored.version_id, await _prove_single_landed(attempt, stored))


async def _prove_single_landed(attempt: Attempt, stored: StoredObject) -> Verification:
    revision = attempt.claim.revision
    match adoption(revision.etag, revision.size, stored):
        case Adoption.AS_ETAG:
            return Verification.ETAG
        case Adoption.AS_PARTS:
            return Verification.PARTS
        case _:
            if await equals_source(attempt.mirror, attempt.slot, attempt.claim.key, revision, stored):
                return Verification.READBACK
            # It bears a token of ours: left there, it would be found again by every attempt.
            await _remove_ours(attempt, stored)
            raise mismatch("what an earlier attempt left is not the source's file; that version was removed")


async def equals_source(
    mirror: Mirror, slot: Slot, key: str, revision: Revision, stored: StoredObject, gzip: GzipCheck | None = None
) -> bool:
    """Compare a stored object with the source's revision, byte for byte by hashes; ``gzip`` is fed with it if it is equal.

    Where the source's ETag has the form of an MD5 and the object's hash is that, only the target is read; else both are,
    range by range.
    """
    dest_key = mirror.target.prefix + key
    expected = md5_form(revision.etag)
    if expected:
        fed = gzip.copy() if gzip else None
        if await hash_stored(mirror, slot, dest_key, stored.version_id, single_part(revision.size), fed) == expected:
            if gzip and fed:
                gzip.become(fed)
            return True
    plan = PartPlan(revision.size, AUTOMATIC_MAX)
    for number in range(1, plan.count + 1):
        part = plan.part(number)
        ours = await hash_source(mirror, slot, key, revision, part if revision.size else None)
        if ours != await hash_stored(mirror, slot, dest_key, stored.version_id, part, gzip):
            return False
    return True


async def _compare_published(
    attempt: Attempt, stored: StoredObject, receipts: tuple[Receipt, ...] | list[Receipt]
) -> None:
    for receipt in receipts:
        if await _hash_back(attempt, stored, receipt.part) != receipt.md5:
            await _remove_ours(attempt, stored)
            await attempt.give_up()
            number = receipt.part.number
            raise mismatch(f"part {number} read back is not what was sent; that version was removed")


async def _remove_ours(attempt: Attempt, stored: StoredObject) -> None:
    if stored.version_id:
        await attempt.mirror.target.delete_version(attempt.dest_key, stored.version_id)


async def _hash_back(attempt: Attempt, stored: StoredObject, part: Part) -> str:
    return await hash_stored(attempt.mirror, attempt.slot, attempt.dest_key, stored.version_id, part)


async def _hash_whole(attempt: Attempt) -> str:
    return await hash_source(attempt.mirror, attempt.slot, attempt.claim.key, attempt.claim.revision, None)
