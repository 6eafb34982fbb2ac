"""Complete, which is not idempotent: noted before it is sent, and a lost answer is settled by looking.

Sources: users' reports of B2's NoSuchUpload on a second Complete; FoundationDB #14027 for the token in the metadata.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from polyb2.core.errors import Kind, RemoteError, Scope
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.records import StoredObject, Upload
from polyb2.core.recovery import is_ours
from polyb2.core.units import format_duration
from polyb2.flow.transfer.proof import mismatch
from polyb2.flow.transfer.upload import REFUSALS_MAX
from polyb2.remote.retries import Tries

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt

log = logging.getLogger(__name__)
LOOK_EVERY_S = 10.0


async def publish(attempt: Attempt) -> StoredObject:
    """Complete the attempt's upload; return the published version, seen by HEAD with our token and the right size.

    Raises:
        RemoteError: the object cannot be had from this upload any more, or a side fails.
    """
    mirror, upload = attempt.mirror, attempt.own_upload
    await mirror.ledger.note_completing(attempt.claim, upload)
    policy = mirror.target.guard.policy
    tries = Tries(replace(policy, tries=min(policy.tries, REFUSALS_MAX)), mirror.meters)
    while True:
        try:
            with attempt.refusals.counted():
                await mirror.target.complete(upload, attempt.ordered_receipts)
        except RemoteError as error:
            if error.handling.scope is Scope.ACCOUNT or error.kind in {Kind.CAP_EXCEEDED, Kind.MISMATCH}:
                raise
            lost: RemoteError | None = error
        else:
            lost = None
        stored = await find_published(attempt, upload, still_open=lost)
        if stored is not None:
            return stored
        # ListParts still knows the upload, so no Complete took place: ask again.
        await asyncio.sleep(tries.delay_s(lost or mismatch("complete had no effect")))


async def find_published(attempt: Attempt, upload: Upload, *, still_open: RemoteError | None) -> StoredObject | None:
    """Look for the object that a Complete was to make.

    Args:
        attempt: the attempt.
        upload: the upload that was completed.
        still_open: the error of the Complete; None if it succeeded, and then the upload is not checked.

    Returns:
        The object; None if the upload is still open, so that Complete may be sent again.

    Raises:
        RemoteError: ``no_such_upload`` when neither upload nor object is there after five minutes.
    """
    mirror, loop = attempt.mirror, asyncio.get_running_loop()
    began_s, wait_s, is_logged = loop.time(), 0.25, False
    while True:
        stored = await mirror.target.head(upload.dest_key)
        if is_ours(attempt.claim, stored):
            return stored
        if still_open is not None and await mirror.target.list_parts(upload) is not None:
            return None
        mirror.check_draining()
        waited_s = loop.time() - began_s
        if waited_s >= mirror.timing.publish_logged_s and not is_logged:
            is_logged = True
            _log_wait(attempt, still_open, waited_s)
        if waited_s + wait_s > mirror.timing.publish_limit_s:
            words = "the upload was completed or lost, and no object of ours appeared within 5 minutes"
            raise RemoteError(mirror.target.guard.side, Kind.NO_SUCH_UPLOAD, words)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, LOOK_EVERY_S)


def _log_wait(attempt: Attempt, lost: RemoteError | None, waited_s: float) -> None:
    """Log once that the target does not show a file yet whose bytes it all has."""
    claim = attempt.claim
    answer = "took" if lost is None else "may have taken"
    words = (
        "%s: all bytes are stored and the target %s the Complete, but does not show the object yet; "
        "polyb2 looks for it for up to %s (large files take time to assemble)"
    )
    extra = log_fields(
        LogEvent.FILE_AWAITED, key=claim.key, dataset=claim.dataset, seconds=waited_s, attempt=claim.attempt
    )
    log.info(words, claim.key, answer, format_duration(attempt.mirror.timing.publish_limit_s), extra=extra)
