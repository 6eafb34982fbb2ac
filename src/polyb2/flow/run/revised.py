"""A newer revision that a worker meets in mid-transfer: it is checked like a listed one, or waits for a person.

Invariant: a revision enters the queue by this way or by discovery, and both check that the target can hold it, and
that its size is within what was agreed to.
"""

from __future__ import annotations

import logging

from polyb2.core.compare import HELD, UNUSABLE
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.parts import bytes_to_send
from polyb2.core.records import Claim, ListedObject
from polyb2.core.status import Event, Status
from polyb2.core.units import format_size
from polyb2.flow.discover.listed import unusable
from polyb2.flow.transfer.attempt import Attempt

log = logging.getLogger(__name__)


async def queue_revision(attempt: Attempt, listed: ListedObject, agreed_bytes: int | None) -> Event:
    """Queue the newest revision of a claimed file; or park the file, and say what a person can do.

    Args:
        attempt: at the revision before.
        listed: the newest revision.
        agreed_bytes: a larger one may not be queued unasked; None for any.

    Raises:
        LeaseLostError: the claim no longer holds.
    """
    mirror, claim = attempt.mirror, attempt.claim
    facts = {"key": claim.key, "dataset": claim.dataset, "attempt": claim.attempt}
    if (why := unusable(listed)) is not None:
        words = f"the source replaced this file: {why}; polyb2 continues once the listing changes"
        return _parked(claim, await mirror.ledger.hold_revision(claim, listed, UNUSABLE, words), UNUSABLE, words)
    if agreed_bytes is not None and bytes_to_send(listed.size) > agreed_bytes:
        words = _asks(claim, listed)
        return _parked(claim, await mirror.ledger.hold_revision(claim, listed, HELD, words), HELD, words)
    if await mirror.ledger.renew_revision(claim, listed):
        mirror.on_revised(claim.key)
    extra = log_fields(LogEvent.FILE_REVISED, bytes=claim.revision.size, **facts)
    log.info("%s was replaced at the source; the newest revision is queued", claim.key, extra=extra)
    return Event.REVISE


def _asks(claim: Claim, listed: ListedObject) -> str:
    date = claim.key.rsplit("/", 1)[-1].removesuffix(".csv.gz")
    return (
        f"the source replaced this file by one of {format_size(listed.size)}, more than POLYB2_MAX_PLAN_BYTES allows "
        f"unasked; to agree, run polyb2 discover --dates {date} --dataset {claim.dataset} --yes"
    )


def _parked(claim: Claim, event: Event, reason: str, words: str) -> Event:
    if event is Event.PARK:
        extra = log_fields(
            LogEvent.FILE_PARKED,
            key=claim.key,
            dataset=claim.dataset,
            attempt=claim.attempt,
            reason=reason,
            status=Status.PERMANENT_FAILURE,
        )
        log.error("%s parked: %s", claim.key, words, extra=extra)
    return event
