"""One claimed file, from its claim to its settlement: every way that a transfer can end becomes one ledger write."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.errors import Kind, LeaseLostError, Polyb2Error, RemoteError, Scope, Side, UnexpectedError
from polyb2.core.logevents import LogEvent, told
from polyb2.core.records import Claim, ListedObject
from polyb2.core.retry import file_delay_s
from polyb2.core.status import TRANSITIONS, Event, Status
from polyb2.core.units import format_size
from polyb2.core.verdict import Verdict, judge
from polyb2.flow.mirror import DrainedError, InFlight, Mirror
from polyb2.flow.outage import Outage
from polyb2.flow.recover import abort_abandoned, abort_strangers
from polyb2.flow.renewal import renew
from polyb2.flow.streams import Slot
from polyb2.flow.transfer import transfer

log = logging.getLogger(__name__)
INTERRUPTED = Verdict(Event.RELEASE, "interrupted", charged=False, waits=False)
_ASK_THE_LISTING = {Kind.CHANGED, Kind.NOT_FOUND, Kind.FORBIDDEN, Kind.INCONSISTENT}
NOT_YET = "files beside it can be read, so it may only be too new; polyb2 asks again, and polyb2 retry does so at once"
_PARKING = {Event.PARK, Event.REFUSE, Event.GONE}


@dataclass(frozen=True, slots=True)
class RetryRules:
    """``POLYB2_MAX_RETRIES`` and ``POLYB2_RETRY_BASE`` (seconds)."""

    max_retries: int
    base_s: float


async def work(mirror: Mirror, claim: Claim, slot: Slot, outage: Outage, rules: RetryRules) -> Event | None:
    """Transfer a claimed file and settle it; the event, or None if the claim was lost and nothing was settled."""
    mirror.in_flight[claim.key] = InFlight(claim.key, claim.dataset, claim.revision.size, claim.attempt)
    began_s = time.monotonic()
    try:
        return await _attempt(mirror, claim, slot, outage)
    except LeaseLostError as error:
        log.debug("%s: dropped, as %s", claim.key, error, extra=_told(LogEvent.LEASE_LOST, claim))
        return None
    except DrainedError as error:
        return await mirror.ledger.fail(claim, INTERRUPTED, str(error), 0.0)
    except RemoteError as error:
        return await _settle_failure(mirror, claim, outage, rules, error, began_s)
    except Polyb2Error:
        raise
    except Exception as error:
        log.debug("unexpected error in the transfer of %s", claim.key, exc_info=True)
        return await _settle_failure(mirror, claim, outage, rules, UnexpectedError(error), began_s)
    finally:
        del mirror.in_flight[claim.key]
        slot.release()


async def _attempt(mirror: Mirror, claim: Claim, slot: Slot, outage: Outage) -> Event:
    began_s, size = time.monotonic(), format_size(claim.revision.size)
    log.debug("start %s (%s, attempt %d)", claim.key, size, claim.attempt, extra=_told(LogEvent.FILE_STARTED, claim))
    mirrored, new_bytes = await transfer(mirror, claim, slot)
    # The next file's requests need not wait for this one's row.
    slot.release()
    newest = await mirror.ledger.complete(claim, mirrored, new_bytes)
    outage.proved(claim.key, began_s)
    mirror.meters.stored_bytes[claim.dataset] += new_bytes
    seconds, proof = time.monotonic() - began_s, mirrored.verification
    mirror.meters.file_seconds[claim.dataset].observe(seconds)
    extra = _told(LogEvent.FILE_COMPLETED, claim, seconds=seconds, verification=proof)
    log.info("done %s (%s, proof %s)", claim.key, size, proof, extra=extra)
    return Event.COMPLETE if newest else Event.REVISE


async def _settle_failure(
    mirror: Mirror, claim: Claim, outage: Outage, rules: RetryRules, error: RemoteError, began_s: float
) -> Event | None:
    proofs = outage.proofs
    try:
        if error.side is Side.SOURCE and error.kind in _ASK_THE_LISTING:
            settled, error = await _ask_the_listing(mirror, claim, error)
            if settled is not None:
                outage.doubts.forget(claim.key)
                return settled
        trouble = await outage.behind(error, claim.key, began_s)
        doubted = trouble is None and await outage.doubts.about(
            mirror.source, claim, error, mirror.ledger.clock.wall_ms()
        )
        if doubted and error.kind is Kind.FORBIDDEN:
            error = RemoteError(error.side, error.kind, error.message, code=error.code, advice=NOT_YET)
        verdict = judge(
            trouble or error,
            retry_count=claim.retry_count,
            max_retries=rules.max_retries,
            made_progress=await mirror.ledger.has_progressed(claim),
            forbidden_before=claim.forbidden_before,
            outage=trouble is not None,
            doubted=doubted,
        )
        if verdict.event is Event.PARK:
            # While the row is ours: a Create whose answer was lost may have left an upload that nobody knows.
            await _abort_strangers(mirror, claim)
        failures = claim.retry_count + outage.doubts.count(claim.key)
        delay_s = file_delay_s(failures, rules.base_s, random.random())  # noqa: S311 - jitter
        if trouble is not None:
            # The gate closes before the row is free, or it would be claimed again at once.
            outage.report(trouble, claim.key, proofs)
        event = await mirror.ledger.fail(claim, verdict, str(trouble or error), delay_s)
    except LeaseLostError as lost:
        log.debug("%s: dropped, as %s", claim.key, lost, extra=_told(LogEvent.LEASE_LOST, claim))
        return None
    if trouble is None:
        # A stranger's answer that came while the side was well is most likely the tail of its trouble.
        _tell(claim, event, error, quiet=doubted and error.is_strange)
    if event in _PARKING:
        outage.doubts.forget(claim.key)
        await _clean_up(mirror, claim)
    return event


async def _ask_the_listing(mirror: Mirror, claim: Claim, error: RemoteError) -> tuple[Event | None, RemoteError]:
    """Existence and revision are decided by the listing.

    Returns:
        The event if that settled the claim; else None, and the error in the light of what the listing says.
    """
    if error.kind is Kind.FORBIDDEN and not claim.forbidden_before:
        return None, error
    try:
        listed = await mirror.source.stat(claim.key)
    except RemoteError as unlisted:
        log.debug("the listing could not be asked about %s: %s", claim.key, unlisted)
        return None, error if unlisted.handling.scope is Scope.FILE else unlisted
    if listed is None:
        gone = Verdict(Event.PARK, SOURCE_GONE, charged=False, waits=False)
        words = "the source no longer lists this file; it is queued again when it is listed again"
        event = await mirror.ledger.fail(claim, gone, words, 0.0)
        extra = _told(LogEvent.FILE_PARKED, claim, reason=SOURCE_GONE, status=Status.PERMANENT_FAILURE)
        log.warning("%s: %s", claim.key, words, extra=extra)
        await _clean_up(mirror, claim)
        return event, error
    if (listed.etag, listed.size) == (claim.revision.etag, claim.revision.size):
        return None, _contradicted(error, listed)
    event = await renew(mirror, claim, listed)
    if event is Event.PARK:
        await _clean_up(mirror, claim)
    return event, error


def _contradicted(error: RemoteError, listed: ListedObject) -> RemoteError:
    """An error of a GET beside a listing that still shows the same revision: both figures, both places."""
    if error.kind is Kind.FORBIDDEN:
        return error
    words = f"{error.message}; the listing still shows {listed.size} bytes with the ETag {listed.etag}"
    kind = Kind.NOT_FOUND if error.kind is Kind.NOT_FOUND else Kind.INCONSISTENT
    return RemoteError(error.side, kind, words, code=error.code)


async def _abort_strangers(mirror: Mirror, claim: Claim) -> None:
    try:
        await abort_strangers(mirror, mirror.dest_key(claim), None)
    except RemoteError as error:
        words = "unfinished uploads of %s could not be looked for (polyb2 cleanup does): %s"
        log.warning(words, claim.key, error, extra=_told(LogEvent.UPLOAD_LEFT, claim))


async def _clean_up(mirror: Mirror, claim: Claim) -> None:
    """Abort the uploads of a file that is parked; what cannot be aborted now is, by a later run."""
    try:
        await abort_abandoned(mirror, claim.file_id)
    except RemoteError as error:
        words = "an unfinished upload of %s could not be aborted yet: %s"
        log.warning(words, claim.key, error, extra=_told(LogEvent.UPLOAD_LEFT, claim))


def _tell(claim: Claim, event: Event, error: RemoteError, *, quiet: bool) -> None:
    parked = event in _PARKING
    again = logging.DEBUG if quiet else logging.WARNING
    level, what = (logging.ERROR, "parked") if parked else (again, "will be tried again")
    name = LogEvent.FILE_PARKED if parked else LogEvent.FILE_FAILED
    extra = _told(name, claim, reason=error.kind, side=error.side, status=TRANSITIONS[event][1])
    log.log(level, "%s %s: %s", claim.key, what, error, extra=extra)


def _told(event: LogEvent, claim: Claim, **fields: object) -> dict[str, object]:
    """What a log line about a claimed file carries."""
    facts = {"dataset": claim.dataset, "bytes": claim.revision.size, "attempt": claim.attempt}
    return told(event, key=claim.key, **facts, **fields)
