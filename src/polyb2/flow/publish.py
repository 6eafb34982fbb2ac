"""Complete, which is not idempotent: noted before it is sent, and a lost answer is settled by looking.

Sources: users' reports of B2's NoSuchUpload on a second Complete; FoundationDB #14027 for the token in the metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from polyb2.core.errors import Kind, RemoteError, Scope
from polyb2.core.records import Claim, Receipt, StoredObject, Upload, UploadState
from polyb2.core.recovery import is_ours
from polyb2.flow.mirror import Mirror
from polyb2.flow.stream import mismatch
from polyb2.remote.guards import Tries

LOOK_FOR_S = 300.0
"""For how long an object that was completed may stay unseen; assembling 172 GB takes time."""
LOOK_EVERY_S = 10.0


async def publish(mirror: Mirror, claim: Claim, upload: Upload, receipts: Sequence[Receipt]) -> StoredObject:
    """Complete the upload; the published version, seen by HEAD with our token and the right size.

    Raises:
        RemoteError: the object cannot be had from this upload any more, or a side fails.
    """
    await mirror.ledger.note_state(claim, upload, UploadState.COMPLETING)
    tries = Tries(mirror.target.guard.policy, mirror.meters)
    while True:
        try:
            await mirror.target.complete(upload, receipts)
        except RemoteError as error:
            if error.handling.scope is Scope.ACCOUNT or error.kind in {Kind.CAP_EXCEEDED, Kind.MISMATCH}:
                raise
            lost: RemoteError | None = error
        else:
            lost = None
        stored = await find_published(mirror, claim, upload, still_open=lost)
        if stored is not None:
            return stored
        # ListParts still knows the upload, so no Complete took place: ask again.
        await asyncio.sleep(tries.delay_s(lost or mismatch("complete had no effect")))


async def find_published(
    mirror: Mirror, claim: Claim, upload: Upload, *, still_open: RemoteError | None
) -> StoredObject | None:
    """Look for the object that a Complete was to make.

    Args:
        mirror: the shared state.
        claim: whose.
        upload: what was completed.
        still_open: the error of the Complete; None if it was answered well, and then the upload is not asked for.

    Returns:
        The object; None if the upload is still open, so that Complete may be sent again.

    Raises:
        RemoteError: ``no_such_upload`` when neither upload nor object is there after five minutes.
    """
    loop = asyncio.get_running_loop()
    deadline_s, wait_s = loop.time() + LOOK_FOR_S, 0.25
    while True:
        stored = await mirror.target.head(upload.dest_key)
        if is_ours(claim, stored):
            return stored
        if still_open is not None and await mirror.target.list_parts(upload) is not None:
            return None
        mirror.check_draining()
        if loop.time() + wait_s > deadline_s:
            words = "the upload was completed or lost, and no object of ours appeared within 5 minutes"
            raise RemoteError(mirror.target.guard.side, Kind.NO_SUCH_UPLOAD, words)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, LOOK_EVERY_S)
