"""Listing against ledger, object by object: the action of discovery for each.

A revision is ETag + size; a changed LastModified alone updates the record and sends nothing.
"""

from __future__ import annotations

from enum import StrEnum

from polyb2.core.integrity import ProofMark
from polyb2.core.records import KnownFile, ListedObject, StoredObject
from polyb2.core.status import Status

SOURCE_GONE = "source_gone"
GONE_WORDS = "the source no longer lists this file; it is queued again when it is listed again"
HELD = "held"
UNUSABLE = "unusable"
UNTIL_LISTED = frozenset({SOURCE_GONE, HELD, UNUSABLE})
"""Reasons for which a file is parked until the source lists the revision that the ledger knows again."""


class Change(StrEnum):
    NEW = "new"
    REVISED = "revised"
    RELISTED = "relisted"
    TOUCHED = "touched"
    UNCHANGED = "unchanged"


class Plan(StrEnum):
    """The contribution of a listed file to a plan: a new file or a newer revision, held by an earlier discovery or not."""

    NEW = "new"
    NEW_HELD = "new_held"
    REVISED = "revised"
    REVISED_HELD = "revised_held"


class Adoption(StrEnum):
    """The value of an object in the bucket as a copy of a file that the ledger does not know."""

    AS_ETAG = "etag"
    AS_PARTS = "parts"
    AFTER_READBACK = "readback"
    NO = "no"


def compare(known: KnownFile | None, listed: ListedObject) -> Change:
    """Compare a listed object with the ledger's row of its key."""
    if known is None:
        return Change.NEW
    if (known.etag, known.size) != (listed.etag, listed.size):
        return Change.REVISED
    if known.status is Status.PERMANENT_FAILURE and known.reason in UNTIL_LISTED:
        return Change.RELISTED
    return Change.UNCHANGED if known.last_modified_ms == listed.last_modified_ms else Change.TOUCHED


def plan_of(change: Change, *, held: bool) -> Plan | None:
    """The contribution of a listed file to the plan; None if nothing is to be sent."""
    if change is Change.REVISED:
        return Plan.REVISED_HELD if held else Plan.REVISED
    if change in {Change.NEW, Change.RELISTED}:
        return Plan.NEW_HELD if held else Plan.NEW
    return None


def listed_equal(ours: ListedObject, theirs: ListedObject | None) -> bool:
    """Tell if the two listings alone show the same bytes: equal size and equal ETag."""
    return theirs is not None and ours.etag != "" and (ours.size, ours.etag) == (theirs.size, theirs.etag)


def adoption(etag: str, size: int, stored: StoredObject | None) -> Adoption:
    """Decide from HEAD of the target's object if it can be adopted as the source's revision ``etag`` + ``size``."""
    if stored is None or stored.size != size:
        return Adoption.NO
    if stored.etag == etag:
        return Adoption.AS_ETAG
    if not stored.stamp.is_of(etag):
        return Adoption.NO
    match stored.stamp.proof:
        case ProofMark.BEFORE:
            return Adoption.AS_PARTS
        case ProofMark.READBACK:
            return Adoption.AFTER_READBACK
        case None:
            return Adoption.NO
