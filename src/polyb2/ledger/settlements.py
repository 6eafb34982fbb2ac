"""How an attempt ends: the only writes that move a row out of ``processing``, all fenced by the attempt.

A settle whose fence does not hold raises; it never shrugs. If a newer revision was listed meanwhile, whatever the attempt
came to, the row goes back to the queue for that revision.
"""

from __future__ import annotations

from polyb2.clock import Moment
from polyb2.core.records import Claim, ListedObject, Mirrored, UploadState
from polyb2.core.status import TRANSITIONS, Event
from polyb2.core.verdict import Verdict
from polyb2.ledger.database import Transaction
from polyb2.ledger.leases import fence
from polyb2.ledger.listings import revise

MESSAGE_MAX = 1000


def complete(tx: Transaction, claim: Claim, mirrored: Mirrored, new_bytes: int, now: Moment) -> bool:
    """The target holds the claim's revision, proven; True if that is still the newest one.

    Args:
        tx: the transaction.
        claim: whose.
        mirrored: what the target holds.
        new_bytes: bytes that have no receipt of their own yet (a single PUT), for the rate.
        now: the clocks.
    """
    row = fence(tx, claim, now)
    newest = bool(row["revision"] == claim.revision.number)
    facts = {
        "file_id": claim.file_id,
        "revision": claim.revision.number,
        "etag": claim.revision.etag,
        "size": claim.revision.size,
        "dest_etag": mirrored.etag,
        "dest_version_id": mirrored.version_id,
        "verification": mirrored.verification,
    }
    upload = tx.row("upload_live", file_id=claim.file_id)
    if upload is not None:
        tx.run("upload_state", upload=upload["id"], state=UploadState.DONE)
    tx.run("revision_mirrored", now_ms=now.wall_ms, **facts)
    tx.run("settle_complete" if newest else "note_mirrored", wall_ms=now.wall_ms, **facts)
    if not newest:
        tx.run("settle_superseded", file_id=claim.file_id)
    if new_bytes:
        tx.run("throughput_add", wall_ms=now.wall_ms, length=new_bytes)
    _end_attempt(tx, claim, "completed", None, None, now)
    return newest


def fail(
    tx: Transaction, claim: Claim, verdict: Verdict, message: str, next_attempt_ms: int | None, now: Moment
) -> Event:
    """Settle a failed attempt as its verdict says; the event that took place."""
    row = fence(tx, claim, now)
    message = message[:MESSAGE_MAX]
    _end_attempt(tx, claim, verdict.event, verdict.reason, message, now)
    if row["revision"] != claim.revision.number:
        supersede(tx, claim)
        return Event.REVISE
    if verdict.event is Event.RELEASE:
        tx.run("settle_released", file_id=claim.file_id, reason=verdict.reason, message=message)
        return verdict.event
    _, status = TRANSITIONS[verdict.event]
    parked = verdict.event in {Event.PARK, Event.REFUSE}
    if parked:
        tx.run("uploads_abandon", file_id=claim.file_id, revision=0)
        tx.run("progress_none", file_id=claim.file_id)
    tx.run(
        "settle_failed",
        file_id=claim.file_id,
        status=status,
        reason=verdict.reason,
        message=message,
        charged=int(verdict.charged and not parked),
        forbidden=int(verdict.event is Event.FAIL_DOWNLOAD and verdict.reason == "forbidden"),
        next_attempt_ms=next_attempt_ms if verdict.waits else None,
    )
    return verdict.event


def renew_revision(tx: Transaction, claim: Claim, listed: ListedObject, now: Moment) -> None:
    """The worker itself met a newer revision: record it (unless discovery did) and queue the row for it."""
    row = fence(tx, claim, now)
    if row["revision"] == claim.revision.number:
        revise(tx, claim.file_id, listed, now.wall_ms)
    _end_attempt(tx, claim, "superseded", "changed", "the source replaced the file while it was read", now)
    supersede(tx, claim)


def supersede(tx: Transaction, claim: Claim) -> None:
    tx.run("uploads_abandon", file_id=claim.file_id, revision=0)
    tx.run("settle_superseded", file_id=claim.file_id)


def _end_attempt(
    tx: Transaction, claim: Claim, outcome: str, reason: str | None, message: str | None, now: Moment
) -> None:
    tx.run(
        "attempt_end",
        file_id=claim.file_id,
        attempt=claim.attempt,
        outcome=outcome,
        reason=reason,
        message=message,
        wall_ms=now.wall_ms,
    )
