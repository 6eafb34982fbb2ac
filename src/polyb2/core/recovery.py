"""The remains of an earlier attempt in the target, and what to do about them.

Attempt 2 and later look before they send: ListParts of the upload the ledger owns, HEAD of the key. A token in the
object's metadata is the only thing by which an earlier result is recognised as ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyb2.core.records import Claim, Receipt, StoredObject, StoredPart, UploadState


class Finding(StrEnum):
    """The decision about the remains of an earlier attempt."""

    LANDED = "landed"
    """The object is there with our token: settle it."""
    RESUME = "resume"
    """The upload is still open: go on with the receipts that ListParts confirms."""
    WAIT = "wait"
    """A Complete was sent, the upload is gone and the object not there yet: keep looking."""
    START = "start"
    """Nothing usable: start from the beginning."""


@dataclass(frozen=True, slots=True)
class Traces:
    """The remains of earlier attempts, as the target shows them.

    Attributes:
        stored: the key's current version, None where there is none.
        parts: of the claim's upload, None where the target no longer knows the upload or there was none.
    """

    stored: StoredObject | None
    parts: tuple[StoredPart, ...] | None


def is_ours(claim: Claim, stored: StoredObject | None) -> bool:
    """Tell if the object is the result of an attempt at the claim's revision: token, size and source ETag agree."""
    if stored is None or stored.size != claim.revision.size:
        return False
    tokens = claim.earlier_tokens | {claim.token}
    if claim.upload is not None:
        tokens |= {claim.upload.token}
    return stored.stamp.token in tokens and stored.stamp.is_of(claim.revision.etag)


def assess(claim: Claim, traces: Traces) -> Finding:
    """Decide what to do about the remains of an earlier attempt."""
    if is_ours(claim, traces.stored):
        return Finding.LANDED
    if claim.upload is None:
        return Finding.START
    if traces.parts is not None:
        return Finding.RESUME
    return Finding.WAIT if claim.upload.state is UploadState.COMPLETING else Finding.START


def confirmed(receipts: tuple[Receipt, ...], parts: tuple[StoredPart, ...]) -> tuple[Receipt, ...]:
    """The receipts that ListParts confirms by number, size and ETag; the other parts are sent again."""
    found = {part.number: part for part in parts}
    return tuple(
        receipt
        for receipt in receipts
        if (stored := found.get(receipt.part.number)) is not None
        and (stored.size, stored.etag) == (receipt.part.length, receipt.etag)
    )
