"""Unfinished uploads in the bucket that no ledger row owns: they never expire there, and their parts are billed.

Only keys of the layout under ``B2_KEY_PREFIX`` are looked at: what others upload into the bucket is theirs.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from polyb2.core.errors import RemoteError, Scope
from polyb2.core.keys import parse_key
from polyb2.core.logevents import LogEvent, told
from polyb2.core.records import OpenUpload
from polyb2.flow.mirror import Mirror
from polyb2.flow.transfer.leftovers import abort_all_abandoned

log = logging.getLogger(__name__)


Tell = Callable[[OpenUpload], object]


@dataclass(slots=True)
class Swept:
    """How many uploads were (or, in a dry run, would be) aborted, could not be, and were left alone and why."""

    aborted: int = 0
    failed: int = 0
    owned: int = 0
    young: int = 0
    foreign: int = 0


async def cleanup(
    mirror: Mirror, *, older_than_s: float, now_ms: int, dry_run: bool, tell: Tell = lambda _upload: None
) -> Swept:
    """Abort orphaned uploads begun longer than ``older_than_s`` ago; what one of them meets does not spare the others.

    Args:
        mirror: whose target is looked at.
        older_than_s: what is younger may be somebody's who works on it.
        now_ms: the time.
        dry_run: abort nothing.
        tell: is given each upload that was, or would be, aborted.

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
            extra = told(LogEvent.UPLOAD_LEFT, key=upload.key)
            log.warning("an upload of %s could not be aborted: %s", upload.key, error, extra=extra)
        else:
            swept.aborted += 1
            tell(upload)
    return swept


async def _orphans(mirror: Mirror, swept: Swept, before_ms: int) -> AsyncIterator[OpenUpload]:
    """The uploads to abort, as they are listed; the others are counted in ``swept``."""
    async for upload in mirror.target.open_uploads(mirror.target.prefix):
        if parse_key(upload.key.removeprefix(mirror.target.prefix)) is None:
            swept.foreign += 1
        elif await mirror.ledger.owns_upload(upload.upload_id):
            swept.owned += 1
        elif upload.initiated_ms > before_ms:
            swept.young += 1
        else:
            yield upload
