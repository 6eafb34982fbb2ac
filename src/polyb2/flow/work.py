"""One claimed file, from its claim to its settlement: every way that a transfer can end becomes one ledger write."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.errors import Kind, LeaseLostError, Polyb2Error, RemoteError, Side
from polyb2.core.records import Claim
from polyb2.core.retry import file_delay_s
from polyb2.core.status import Event
from polyb2.core.units import format_size
from polyb2.core.verdict import Verdict, judge
from polyb2.flow.mirror import DrainedError, InFlight, Mirror
from polyb2.flow.outage import Outage
from polyb2.flow.recover import abort_abandoned, abort_strangers
from polyb2.flow.streams import Slot
from polyb2.flow.transfer import transfer

log = logging.getLogger(__name__)
INTERRUPTED = Verdict(Event.RELEASE, "interrupted", charged=False, waits=False)
_ASK_THE_LISTING = {Kind.CHANGED, Kind.NOT_FOUND, Kind.FORBIDDEN}
_PARKING = {Event.PARK, Event.REFUSE, Event.GONE}


@dataclass(frozen=True, slots=True)
class RetryRules:
    """``POLYB2_MAX_RETRIES`` and ``POLYB2_RETRY_BASE`` (seconds)."""

    max_retries: int
    base_s: float


async def work(mirror: Mirror, claim: Claim, slot: Slot, outage: Outage, rules: RetryRules) -> Event | None:
    """Transfer a claimed file and settle it; the event, or None if the claim was lost and nothing was settled."""
    mirror.in_flight[claim.key] = InFlight(claim.key, claim.revision.size, claim.attempt)
    try:
        return await _attempt(mirror, claim, slot, outage)
    except LeaseLostError as error:
        log.warning("%s", error)
        return None
    except DrainedError as error:
        return await mirror.ledger.fail(claim, INTERRUPTED, str(error), 0.0)
    except RemoteError as error:
        return await _settle_failure(mirror, claim, outage, rules, error)
    except Polyb2Error:
        raise
    except Exception as error:
        log.exception("unexpected error in the transfer of %s", claim.key)
        strange = RemoteError(Side.TARGET, Kind.BAD_ANSWER, f"unexpected {type(error).__name__}; please report this")
        return await _settle_failure(mirror, claim, outage, rules, strange)
    finally:
        del mirror.in_flight[claim.key]
        slot.release()


async def _attempt(mirror: Mirror, claim: Claim, slot: Slot, outage: Outage) -> Event:
    log.debug("start %s (%s, attempt %d)", claim.key, format_size(claim.revision.size), claim.attempt)
    mirrored, new_bytes = await transfer(mirror, claim, slot)
    newest = await mirror.ledger.complete(claim, mirrored, new_bytes)
    outage.proved()
    if new_bytes:
        mirror.on_progress(new_bytes)
    log.info("done %s (%s, proof %s)", claim.key, format_size(claim.revision.size), mirrored.verification)
    return Event.COMPLETE if newest else Event.REVISE


async def _settle_failure(
    mirror: Mirror, claim: Claim, outage: Outage, rules: RetryRules, error: RemoteError
) -> Event | None:
    try:
        if error.side is Side.SOURCE and error.kind in _ASK_THE_LISTING:
            settled = await _ask_the_listing(mirror, claim, error)
            if settled is not None:
                return settled
        trouble = await outage.behind(error)
        verdict = judge(
            trouble or error,
            retry_count=claim.retry_count,
            max_retries=rules.max_retries,
            made_progress=await mirror.ledger.has_progressed(claim),
            forbidden_before=claim.forbidden_before,
            outage=trouble is not None,
        )
        if verdict.event is Event.PARK:
            # While the row is ours: a Create whose answer was lost may have left an upload that nobody knows.
            await _abort_strangers(mirror, claim)
        delay_s = file_delay_s(claim.retry_count, rules.base_s, random.random())  # noqa: S311 - jitter
        if trouble is not None:
            # The gate closes before the row is free, or it would be claimed again at once.
            outage.report(trouble)
        event = await mirror.ledger.fail(claim, verdict, str(error), delay_s)
    except LeaseLostError as lost:
        log.warning("%s", lost)
        return None
    if trouble is None:
        _tell(claim, event, error)
    if event in _PARKING:
        await _clean_up(mirror, claim)
    return event


async def _ask_the_listing(mirror: Mirror, claim: Claim, error: RemoteError) -> Event | None:
    """Existence and revision are decided by the listing; None if it shows the very revision that was claimed."""
    if error.kind is Kind.FORBIDDEN and not claim.forbidden_before:
        return None
    try:
        listed = await mirror.source.stat(claim.key)
    except RemoteError as unlisted:
        log.debug("the listing could not be asked about %s: %s", claim.key, unlisted)
        return None
    if listed is None:
        gone = Verdict(Event.PARK, SOURCE_GONE, charged=False, waits=False)
        words = "the source no longer lists this file; it is queued again when it is listed again"
        event = await mirror.ledger.fail(claim, gone, words, 0.0)
        log.warning("%s: %s", claim.key, words)
        await _clean_up(mirror, claim)
        return event
    if (listed.etag, listed.size) == (claim.revision.etag, claim.revision.size):
        return None
    await mirror.ledger.renew_revision(claim, listed)
    log.info("%s was replaced at the source; the newest revision is queued", claim.key)
    return Event.REVISE


async def _abort_strangers(mirror: Mirror, claim: Claim) -> None:
    try:
        await abort_strangers(mirror, mirror.dest_key(claim), None)
    except RemoteError as error:
        log.warning("unfinished uploads of %s could not be looked for (polyb2 cleanup does): %s", claim.key, error)


async def _clean_up(mirror: Mirror, claim: Claim) -> None:
    """Abort the uploads of a file that is parked; what cannot be aborted now is, by a later run."""
    try:
        await abort_abandoned(mirror, claim.file_id)
    except RemoteError as error:
        log.warning("an unfinished upload of %s could not be aborted yet: %s", claim.key, error)


def _tell(claim: Claim, event: Event, error: RemoteError) -> None:
    level = logging.ERROR if event in _PARKING else logging.WARNING
    log.log(level, "%s %s: %s", claim.key, "parked" if event in _PARKING else "will be tried again", error)
