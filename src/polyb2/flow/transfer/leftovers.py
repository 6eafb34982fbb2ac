"""Remains of earlier attempts: look before sending, abort what is given up, confirm the abort, forget it.

No unfinished upload outlives its file: an abandoned one stays in the ledger until the target says it is gone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from polyb2.core.errors import Kind, RemoteError, Scope
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.records import Upload
from polyb2.core.recovery import Traces
from polyb2.flow.mirror import Mirror

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt

log = logging.getLogger(__name__)


async def look(attempt: Attempt) -> Traces:
    """Look for earlier attempts in the target: first the upload's parts, then the object, which a Complete makes of them."""
    target, upload = attempt.mirror.target, attempt.claim.upload
    parts = await target.list_parts(upload) if upload else None
    return Traces(await target.head(attempt.dest_key), parts)


async def abort_abandoned(mirror: Mirror, file_id: int) -> None:
    """Abort every given-up upload of a file, and confirm it.

    Raises:
        RemoteError: the target does not confirm; nothing new may begin for this file then.
    """
    for upload in await mirror.ledger.abandoned_uploads(file_id):
        await _abort(mirror, upload)


async def abort_all_abandoned(mirror: Mirror) -> int:
    """Abort given-up uploads that could not be aborted then; return the number of those that still exist.

    Raises:
        RemoteError: trouble of the target, and not of one upload.
    """
    left = 0
    async for upload in mirror.ledger.all_abandoned_uploads():
        try:
            await _abort(mirror, upload)
        except RemoteError as error:
            if error.handling.scope is not Scope.FILE:
                raise
            left += 1
            extra = log_fields(LogEvent.UPLOAD_LEFT, key=upload.dest_key)
            log.warning("an abandoned upload of %s could not be aborted yet: %s", upload.dest_key, error, extra=extra)
    return left


async def abort_orphans(mirror: Mirror, dest_key: str, own_upload_id: str | None) -> None:
    """Abort orphaned uploads of a key that this claim owns: a Create whose answer was lost leaves one behind."""
    orphans = [
        found.upload_id
        async for found in mirror.target.open_uploads(dest_key)
        if found.key == dest_key and found.upload_id != own_upload_id
    ]
    for upload_id in orphans:
        log.info("aborting an unfinished upload of %s", dest_key)
        await mirror.target.abort(dest_key, upload_id)


async def _abort(mirror: Mirror, upload: Upload) -> None:
    await mirror.target.abort(upload.dest_key, upload.upload_id)
    if await mirror.target.list_parts(upload) is not None:
        words = f"an abandoned upload of {upload.dest_key} is still there after its abort"
        raise RemoteError(mirror.target.guard.side, Kind.SERVER_ERROR, words)
    await mirror.ledger.forget_upload(upload)
