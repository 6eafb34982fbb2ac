"""Unfinished uploads in the bucket that no ledger row owns: they never expire there, and their parts are billed.

Only keys of the layout under ``B2_KEY_PREFIX`` are looked at: what others upload into the bucket is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from polyb2.core.keys import parse_key
from polyb2.core.records import OpenUpload
from polyb2.flow.mirror import Mirror
from polyb2.flow.recover import abort_all_abandoned


@dataclass(slots=True)
class Swept:
    """Uploads that were (or, in a dry run, would be) aborted, and those that were left alone and why."""

    aborted: list[OpenUpload] = field(default_factory=list)
    owned: int = 0
    young: int = 0
    foreign: int = 0


async def cleanup(mirror: Mirror, *, older_than_s: float, now_ms: int, dry_run: bool) -> Swept:
    """Abort orphaned uploads begun longer than ``older_than_s`` ago."""
    swept = Swept()
    if not dry_run:
        await abort_all_abandoned(mirror)
    async for upload in mirror.target.open_uploads(mirror.target.prefix):
        if parse_key(upload.key.removeprefix(mirror.target.prefix)) is None:
            swept.foreign += 1
        elif await mirror.ledger.owns_upload(upload.upload_id):
            swept.owned += 1
        elif now_ms - upload.initiated_ms < older_than_s * 1000:
            swept.young += 1
        else:
            swept.aborted.append(upload)
    if not dry_run:
        for upload in swept.aborted:
            await mirror.target.abort(upload.key, upload.upload_id)
    return swept
