"""Unfinished uploads in the bucket that no ledger row owns: they never expire there, and their parts are billed.

Only keys of the layout under ``B2_KEY_PREFIX`` are examined: other uploads in the bucket belong to others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from polyb2.core.errors import RemoteError, Scope
from polyb2.core.keys import parse_key
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.records import OpenUpload
from polyb2.flow.mirror import Mirror
from polyb2.flow.transfer.leftovers import abort_all_abandoned

log = logging.getLogger(__name__)


Tell = Callable[[OpenUpload], object]


@dataclass(slots=True)
class Swept:
    """The number of uploads that were aborted (or would be, in a dry run), failed to abort, or were left alone by reason."""

    aborted: int = 0
    failed: int = 0
    owned: int = 0
    young: int = 0
    foreign: int = 0


async def cleanup(
    mirror: Mirror, *, older_than_s: float, now_ms: int, dry_run: bool, tell: Tell = lambda _upload: None
) -> Swept:
    """Abort orphaned uploads that began more than ``older_than_s`` ago; the failure of one does not stop the others.

    Args:
        mirror: the mirror whose target is examined.
        older_than_s: a younger upload may still be in use.
        now_ms: the time.
        dry_run: abort nothing.
        tell: called with each upload that was, or would be, aborted.

    Raises:
        RemoteError: the target refuses or is away.
    """
    swept = Swept()
    if not dry_run:
        swept.failed += await abort_all_abandoned(mirror)
    async for upload in _orphans(mirror, swept, now_ms - int(older_than_s * 1000)):
        try:
            if not dry_run:
                await mirror.target.abort(upload.key, upload.upload_id)
        except RemoteError as error:
            if error.handling.scope is not Scope.FILE:
                raise
            swept.failed += 1
            extra = log_fields(LogEvent.UPLOAD_LEFT, key=upload.key)
            log.warning("an upload of %s could not be aborted: %s", upload.key, error, extra=extra)
        else:
            swept.aborted += 1
            tell(upload)
    return swept


async def _orphans(mirror: Mirror, swept: Swept, before_ms: int) -> AsyncIterator[OpenUpload]:
    """The uploads to abort, in the order of the listing; the others are counted in ``swept``."""
    async for upload in mirror.target.open_uploads(mirror.target.prefix):
        if parse_key(upload.key.removeprefix(mirror.target.prefix)) is None:
            swept.foreign += 1
        elif await mirror.ledger.owns_upload(upload.upload_id):
            swept.owned += 1
        elif upload.initiated_ms > before_ms:
            swept.young += 1
        else:
            yield upload
