"""Settlements of attempts: the only writes that move a row out of ``processing``, all fenced by the attempt.

A settlement whose fence does not hold raises; it is never ignored. If a newer revision was listed meanwhile, the row goes
back to the queue for that revision, whatever the attempt came to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyb2.core.compare import HELD, Plan
from polyb2.core.keys import parse_key
from polyb2.core.records import Claim, ListedObject, Mirrored
from polyb2.core.status import TRANSITIONS, Event
from polyb2.core.verdict import Verdict
from polyb2.ledger.rows import Discovered
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.leases import fence, fences
from polyb2.ledger.verbs.listings import hold, revise
from polyb2.ledger.verbs.uploads import abandon_live

MESSAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Completion:
    """The target holds the claim's revision, proven.

    Attributes:
        claim: whose.
        mirrored: what the target holds.
        new_bytes: bytes that have no receipt of their own yet (a single PUT), for the rate.
    """

    claim: Claim
    mirrored: Mirrored
    new_bytes: int


def complete(tx: Transaction, completions: Sequence[Completion]) -> list[bool]:
    """Settle proven transfers of different files; True for each whose revision is still the newest one."""
    rows = fences(tx, [one.claim for one in completions])
    newest = [bool(row["revision"] == one.claim.revision.number) for row, one in zip(rows, completions, strict=True)]
    settled = [_facts(one) for one, is_newest in zip(completions, newest, strict=True) if is_newest]
    superseded = [_facts(one) for one, is_newest in zip(completions, newest, strict=True) if not is_newest]
    done = settled + superseded if superseded else settled
    for statement in ("uploads_done", "revisions_mirrored", "attempts_completed"):
        tx.run(statement, done=done)
    if settled:
        tx.run("settle_complete", done=settled)
    if superseded:
        tx.run("note_mirrored", done=superseded)
    for facts in superseded:
        tx.run("settle_superseded", file_id=facts["file_id"])
    for worker in {one.claim.worker for one in completions}:
        if new_bytes := sum(one.new_bytes for one in completions if one.claim.worker == worker):
            tx.run("throughput_add", worker=worker, length=new_bytes)
    return newest


def _facts(completion: Completion) -> dict[str, object]:
    claim, mirrored = completion.claim, completion.mirrored
    return {
        "file_id": claim.file_id,
        "attempt": claim.attempt,
        "revision": claim.revision.number,
        "etag": claim.revision.etag,
        "size": claim.revision.size,
        "dest_etag": mirrored.etag,
        "dest_version_id": mirrored.version_id,
        "verification": mirrored.verification,
    }


def fail(tx: Transaction, claim: Claim, verdict: Verdict, message: str, delay_s: float) -> Event:
    """Settle an attempt that failed, or that our own stop ended (a release), as its verdict says.

    ``delay_s`` is the back-off where it waits. Returns the event that took place.
    """
    row = fence(tx, claim)
    message = message[:MESSAGE_MAX]
    _end_attempt(tx, claim, verdict.event, verdict.reason, message)
    if row["revision"] != claim.revision.number:
        _supersede(tx, claim)
        return Event.REVISE
    if verdict.event is Event.RELEASE:
        tx.run("settle_released", file_id=claim.file_id, reason=verdict.reason, message=message)
        return verdict.event
    _, status = TRANSITIONS[verdict.event]
    parked = verdict.event in {Event.PARK, Event.REFUSE}
    if parked:
        abandon_live(tx, claim.file_id)
        tx.run("progress_none", file_id=claim.file_id, fresh=0)
    tx.run(
        "settle_failed",
        file_id=claim.file_id,
        status=status,
        reason=verdict.reason,
        message=message,
        charged=int(verdict.charged and not parked),
        forbidden=int(verdict.event is Event.FAIL_DOWNLOAD and verdict.reason == "forbidden"),
        next_attempt_ms=tx.now_ms + int(delay_s * 1000) if verdict.waits else None,
    )
    return verdict.event


def renew_revision(tx: Transaction, claim: Claim, listed: ListedObject) -> bool:
    """Queue the row for a newer revision that the worker met; False if discovery had recorded one before."""
    is_news = bool(fence(tx, claim)["revision"] == claim.revision.number)
    if is_news:
        revise(tx, claim.file_id, listed)
    _end_attempt(tx, claim, "superseded", "changed", "the source replaced the file while it was read")
    _supersede(tx, claim)
    return is_news


def hold_revision(tx: Transaction, claim: Claim, listed: ListedObject, reason: str, message: str) -> Event:
    """Park a row whose newer revision the worker met and may not queue, and keep it; ``revise`` if discovery queued one."""
    event = fail(tx, claim, Verdict(Event.PARK, reason, charged=False, waits=False), message, 0.0)
    if event is Event.PARK and reason == HELD and (name := parse_key(claim.key)) is not None:
        hold(tx, [Discovered(name, listed, plan=Plan.REVISED)])
    return event


def _supersede(tx: Transaction, claim: Claim) -> None:
    abandon_live(tx, claim.file_id)
    tx.run("settle_superseded", file_id=claim.file_id)


def _end_attempt(tx: Transaction, claim: Claim, outcome: str, reason: str | None, message: str | None) -> None:
    ended = {"outcome": outcome, "reason": reason, "message": message}
    tx.run("attempt_end", file_id=claim.file_id, attempt=claim.attempt, **ended)
