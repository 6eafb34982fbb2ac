"""The settlement: every way in which an attempt can end becomes one ledger write.

A proven file is completed. An error of the source about the file's existence or revision is checked against the
listing, which decides. Any other error is the side's or the file's (``diagnosis.py``); the verdict decides the cost
for the file.

Invariant: a newer revision enters the queue by this way or by discovery, and both check that the target can hold it, and that
its size is within what was agreed to.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from polyb2.core.compare import GONE_WORDS, HELD, SOURCE_GONE, UNUSABLE
from polyb2.core.errors import Kind, LeaseLostError, Polyb2Error, RemoteError, Scope, Side, UnexpectedError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.parts import bytes_to_send
from polyb2.core.records import Claim, ListedObject
from polyb2.core.retry import file_delay_s
from polyb2.core.status import TRANSITIONS, Event, Status
from polyb2.core.units import format_size
from polyb2.core.verdict import Verdict, judge
from polyb2.flow.discover.listed import unusable
from polyb2.flow.mirror import DrainedError, Mirror
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.diagnosis import Diagnosis
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.attempt import Attempt
from polyb2.flow.transfer.leftovers import abort_abandoned, abort_orphans
from polyb2.waits import loop_s

log = logging.getLogger(__name__)
INTERRUPTED = Verdict(Event.RELEASE, "interrupted", charged=False, waits=False)
GONE = Verdict(Event.PARK, SOURCE_GONE, charged=False, waits=False)
_ASK_THE_LISTING = {Kind.CHANGED, Kind.NOT_FOUND, Kind.FORBIDDEN, Kind.INCONSISTENT}
NOT_YET = "files beside it can be read, so it may only be too new; polyb2 asks again, and polyb2 retry does so at once"
_PARKING = {Event.PARK, Event.REFUSE}


@dataclass(frozen=True, slots=True)
class SettlementRules:
    """The rules by which a failed attempt is settled.

    Attributes:
        max_retries: ``POLYB2_MAX_RETRIES``.
        base_s: ``POLYB2_RETRY_BASE``, seconds.
        agreed_bytes: a newer revision that is larger may not be queued unasked; None for any.
    """

    max_retries: int
    base_s: float
    agreed_bytes: int | None = None


class Settlement:
    """Works on claims, and settles each of them once."""

    def __init__(
        self,
        mirror: Mirror,
        fence: Callable[[int], None],
        breaker: CircuitBreaker,
        diagnosis: Diagnosis,
        rules: SettlementRules,
    ) -> None:
        """``fence`` raises LeaseLostError unless that worker, by its row in the ledger, has its lease."""
        self._mirror = mirror
        self._fence = fence
        self._breaker = breaker
        self._diagnosis = diagnosis
        self._rules = rules

    async def work(self, claim: Claim, slot: Slot) -> Event | None:
        """Transfer a claimed file and settle it; return the event, or None if the claim was lost and nothing was settled."""
        attempt = Attempt(self._mirror.fenced(partial(self._fence, claim.worker)), claim, slot)
        self._mirror.in_flight[claim.key] = attempt.progress
        try:
            return await self._settled(attempt)
        except LeaseLostError as error:
            log.debug("%s: dropped, as %s", claim.key, error, extra=_fields(LogEvent.LEASE_LOST, claim))
            return None
        finally:
            del self._mirror.in_flight[claim.key]
            slot.release()

    async def _settled(self, attempt: Attempt) -> Event:
        try:
            return await self._complete(attempt)
        except DrainedError as error:
            return await self._mirror.ledger.fail(attempt.claim, INTERRUPTED, str(error), 0.0)
        except RemoteError as error:
            return await self._fail(attempt, error)
        except Polyb2Error:
            raise
        except Exception as error:
            log.debug("unexpected error in the transfer of %s", attempt.claim.key, exc_info=True)
            return await self._fail(attempt, UnexpectedError(error))

    async def _complete(self, attempt: Attempt) -> Event:
        claim, meters = attempt.claim, self._mirror.meters
        size = format_size(claim.revision.size)
        extra = _fields(LogEvent.FILE_STARTED, claim)
        log.debug("start %s (%s, attempt %d)", claim.key, size, claim.attempt, extra=extra)
        mirrored, new_bytes = await attempt.transfer()
        # The next file's requests need not wait for this one's row.
        attempt.slot.release()
        newest = await self._mirror.ledger.complete(claim, mirrored, new_bytes)
        self._breaker.proved(claim.key, attempt.progress.began_s)
        meters.stored_bytes[claim.dataset] += new_bytes
        seconds, proof = loop_s() - attempt.progress.began_s, mirrored.verification
        meters.file_seconds[claim.dataset].observe(seconds)
        extra = _fields(LogEvent.FILE_COMPLETED, claim, seconds=seconds, verification=proof)
        log.info("done %s (%s, proof %s)", claim.key, size, proof, extra=extra)
        return Event.COMPLETE if newest else Event.REVISE

    async def _fail(self, attempt: Attempt, error: RemoteError) -> Event:
        claim, diagnosis, ledger = attempt.claim, self._diagnosis, self._mirror.ledger
        proofs = diagnosis.proofs
        if error.side is Side.SOURCE and error.kind in _ASK_THE_LISTING:
            settled, error = await self._ask_the_listing(attempt, error)
            if settled is not None:
                diagnosis.doubts.forget(claim.key)
                return settled
        began_s = attempt.progress.began_s
        trouble = await diagnosis.behind(error, claim.key, began_s, self._breaker.explains(began_s))
        doubted = trouble is None and await diagnosis.doubts.about(
            attempt.mirror.source, claim, error, ledger.clock.wall_ms()
        )
        if doubted and error.kind is Kind.FORBIDDEN:
            error = RemoteError(error.side, error.kind, error.message, code=error.code, advice=NOT_YET)
        verdict = judge(
            trouble or error,
            retry_count=claim.retry_count,
            max_retries=self._rules.max_retries,
            made_progress=await ledger.has_progressed(claim),
            forbidden_before=claim.forbidden_before,
            outage=trouble is not None,
            doubted=doubted,
        )
        if verdict.event is Event.PARK:
            # Do this while we still own the row: a Create whose answer was lost may have left an unrecorded upload.
            await _abort_orphans(attempt)
        if trouble is not None:
            # The breaker opens before the row is free, or it would be claimed again at once.
            self._breaker.report(trouble, claim.key, proofs)
        failures = claim.retry_count + diagnosis.doubts.count(claim.key)
        delay_s = file_delay_s(failures, self._rules.base_s, random.random())  # noqa: S311 - jitter
        event = await ledger.fail(claim, verdict, str(trouble or error), delay_s)
        if trouble is None:
            # An intermediary's answer that came while the side was well is most likely the tail of its trouble.
            _log_failure(claim, event, error, quiet=doubted and error.by_intermediary)
        if event in _PARKING:
            diagnosis.doubts.forget(claim.key)
            await _abort_given_up(attempt)
        return event

    async def _ask_the_listing(self, attempt: Attempt, error: RemoteError) -> tuple[Event | None, RemoteError]:
        """Let the listing decide on existence and revision.

        Returns:
            The event if that settled the claim; else None, and the error in the light of what the listing says.
        """
        claim = attempt.claim
        if error.kind is Kind.FORBIDDEN and not claim.forbidden_before:
            return None, error
        try:
            listed = await attempt.mirror.source.stat(claim.key)
        except RemoteError as unlisted:
            log.debug("the listing could not be asked about %s: %s", claim.key, unlisted)
            return None, error if unlisted.handling.scope is Scope.FILE else unlisted
        if listed is None:
            event = await self._mirror.ledger.fail(claim, GONE, GONE_WORDS, 0.0)
            extra = _fields(LogEvent.FILE_PARKED, claim, reason=SOURCE_GONE, status=Status.PERMANENT_FAILURE)
            log.warning("%s: %s", claim.key, GONE_WORDS, extra=extra)
            await _abort_given_up(attempt)
            return event, error
        if (listed.etag, listed.size) == (claim.revision.etag, claim.revision.size):
            return None, _contradicted(error, listed)
        event = await _queue_revision(attempt, listed, self._rules.agreed_bytes)
        if event is Event.PARK:
            await _abort_given_up(attempt)
        return event, error


def _contradicted(error: RemoteError, listed: ListedObject) -> RemoteError:
    """The error of a GET that the listing contradicts, as it still shows the same revision: both figures, both places."""
    if error.kind is Kind.FORBIDDEN:
        return error
    words = f"{error.message}; the listing still shows {listed.size} bytes with the ETag {listed.etag}"
    kind = Kind.NOT_FOUND if error.kind is Kind.NOT_FOUND else Kind.INCONSISTENT
    return RemoteError(error.side, kind, words, code=error.code)


async def _queue_revision(attempt: Attempt, listed: ListedObject, agreed_bytes: int | None) -> Event:
    """Queue the newest revision of a claimed file; or park the file, and say what a person can do.

    Args:
        attempt: at the revision before.
        listed: the newest revision.
        agreed_bytes: a larger one may not be queued unasked; None for any.

    Raises:
        LeaseLostError: the claim no longer holds.
    """
    mirror, claim = attempt.mirror, attempt.claim
    if (why := unusable(listed)) is not None:
        words = f"the source replaced this file: {why}; polyb2 continues once the listing changes"
        return _parked(claim, await mirror.ledger.hold_revision(claim, listed, UNUSABLE, words), UNUSABLE, words)
    if agreed_bytes is not None and bytes_to_send(listed.size) > agreed_bytes:
        words = _asks(claim, listed)
        return _parked(claim, await mirror.ledger.hold_revision(claim, listed, HELD, words), HELD, words)
    if await mirror.ledger.renew_revision(claim, listed):
        mirror.on_revised(claim.key)
    log.info(
        "%s was replaced at the source; the newest revision is queued",
        claim.key,
        extra=_fields(LogEvent.FILE_REVISED, claim),
    )
    return Event.REVISE


def _asks(claim: Claim, listed: ListedObject) -> str:
    date = claim.key.rsplit("/", 1)[-1].removesuffix(".csv.gz")
    return (
        f"the source replaced this file by one of {format_size(listed.size)}, more than POLYB2_MAX_PLAN_BYTES allows "
        f"unasked; to agree, run polyb2 discover --dates {date} --dataset {claim.dataset} --yes"
    )


def _parked(claim: Claim, event: Event, reason: str, words: str) -> Event:
    if event is Event.PARK:
        extra = _fields(LogEvent.FILE_PARKED, claim, reason=reason, status=Status.PERMANENT_FAILURE)
        log.error("%s parked: %s", claim.key, words, extra=extra)
    return event


async def _abort_orphans(attempt: Attempt) -> None:
    claim = attempt.claim
    try:
        await abort_orphans(attempt.mirror, attempt.dest_key, None)
    except RemoteError as error:
        words = "could not look for unfinished uploads of %s (polyb2 cleanup does): %s"
        log.warning(words, claim.key, error, extra=_fields(LogEvent.UPLOAD_LEFT, claim))


async def _abort_given_up(attempt: Attempt) -> None:
    """Abort the uploads of a file that is parked; a later run aborts those that cannot be aborted now."""
    claim = attempt.claim
    try:
        await abort_abandoned(attempt.mirror, claim.file_id)
    except RemoteError as error:
        words = "an unfinished upload of %s could not be aborted yet: %s"
        log.warning(words, claim.key, error, extra=_fields(LogEvent.UPLOAD_LEFT, claim))


def _log_failure(claim: Claim, event: Event, error: RemoteError, *, quiet: bool) -> None:
    parked = event in _PARKING
    again = logging.DEBUG if quiet else logging.WARNING
    level, what = (logging.ERROR, "parked") if parked else (again, "will be tried again")
    name = LogEvent.FILE_PARKED if parked else LogEvent.FILE_FAILED
    extra = _fields(name, claim, reason=error.kind, side=error.side, status=TRANSITIONS[event][1])
    log.log(level, "%s %s: %s", claim.key, what, error, extra=extra)


def _fields(event: LogEvent, claim: Claim, **fields: object) -> dict[str, object]:
    """The fields of a log line about a claimed file."""
    facts = {"dataset": claim.dataset, "bytes": claim.revision.size, "attempt": claim.attempt}
    return log_fields(event, key=claim.key, **facts, **fields)
