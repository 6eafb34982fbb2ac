"""A large file's upload: created on record, its parts sent in parallel, their receipts durable one by one.

As many lanes send as there are free slots; the first failure ends them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from polyb2.core.errors import LeaseLostError
from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import PartProof, Receipt, Upload
from polyb2.core.stamp import Stamp
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.body import send_part
from polyb2.flow.transfer.leftovers import abort_orphans
from polyb2.flow.transfer.proof import OpaqueTargetError, check_part, is_hashed
from polyb2.flow.transfer.refusals import UploadRefusedError

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt

RECORD_WITHIN_S = 2.0
"""A stopping process waits this long for the answer to a Create, which names the upload that would be left behind."""


async def begin_upload(attempt: Attempt, plan: PartPlan, proof: PartProof, stamp: Stamp) -> Upload:
    """Create an upload and record it; a cancellation waits a little for that, so that none is lost."""
    created = asyncio.create_task(_create(attempt, plan, proof, stamp), name=f"create {attempt.claim.key}")
    try:
        await asyncio.wait([created])
    except asyncio.CancelledError:
        await asyncio.wait([created], timeout=RECORD_WITHIN_S)
        if created.done() and not created.cancelled():
            # Retrieve the exception, so that asyncio does not log it; the caller gets the CancelledError.
            created.exception()
        raise
    finally:
        created.cancel()
    upload = created.result()
    await abort_orphans(attempt.mirror, upload.dest_key, upload.upload_id)
    return upload


async def _create(attempt: Attempt, plan: PartPlan, proof: PartProof, stamp: Stamp) -> Upload:
    ledger, claim, dest_key = attempt.mirror.ledger, attempt.claim, attempt.dest_key
    upload_id = await attempt.mirror.target.create(dest_key, stamp)
    try:
        return await ledger.begin_upload(claim, dest_key, upload_id, plan, proof)
    except LeaseLostError:
        await ledger.disown_upload(claim, dest_key, upload_id, plan, proof)
        raise


async def send_missing(attempt: Attempt, *, hash_all: bool = False) -> None:
    """Send every part without a receipt; after the first error, parts in progress end, and then it is raised.

    The slot is given back once no part is left for it: parts that back off may need it, and waiting for them needs none.
    """
    sender = _Sender(attempt, hash_all=hash_all)
    async with asyncio.TaskGroup() as group:
        expansion = group.create_task(sender.expand(group), name=f"expand {attempt.claim.key}")
        await sender.lane(attempt.slot)
        expansion.cancel()
        attempt.slot.release()
    sender.raise_failure()


class _Sender:
    """Takes the missing parts one by one; lanes share it, and the first failure stops the taking."""

    def __init__(self, attempt: Attempt, *, hash_all: bool) -> None:
        self._attempt = attempt
        self._upload = attempt.own_upload
        self._hash_all = hash_all
        self._missing = _missing(self._upload.plan, frozenset(attempt.receipts))
        self._next = next(self._missing, None)
        self._failure: Exception | None = None

    async def lane(self, slot: Slot) -> None:
        """Send parts with one slot until none is left to take."""
        while part := self._take():
            await self._send(part, slot)

    async def expand(self, group: asyncio.TaskGroup) -> None:
        """Take further slots, as they are free, for one part each."""
        while self._next and self._failure is None:
            slot = await self._attempt.mirror.slots.for_part()
            if part := self._take():
                sending = group.create_task(self._send(part, slot), name=f"part of {self._attempt.claim.key}")
                # A task that is cancelled before its first step could not do so itself.
                sending.add_done_callback(lambda _sending, slot=slot: slot.release())  # type: ignore[misc]
            else:
                slot.release()

    def _take(self) -> Part | None:
        """The next part to send; None if none is left, or one failed."""
        part = self._next if self._failure is None else None
        if part is not None:
            self._next = next(self._missing, None)
        return part

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _send(self, part: Part, slot: Slot) -> None:
        attempt = self._attempt
        try:
            attempt.mirror.check_draining()
            receipt = await self._checked(part, slot)
            await attempt.mirror.ledger.add_receipt(attempt.claim, self._upload, receipt)
        except Exception as error:  # noqa: BLE001 - kept, and raised when what is under way has ended
            # The result of part 1 explains the mismatches of other parts, and so do refusals of all parts.
            if self._failure is None or isinstance(error, OpaqueTargetError | UploadRefusedError):
                self._failure = error
            return
        attempt.receipts[part.number] = receipt
        attempt.mirror.meters.stored_bytes[attempt.claim.dataset] += part.length
        attempt.progress.settled_bytes += part.length

    async def _checked(self, part: Part, slot: Slot) -> Receipt:
        """Send a part; once more if the target's ETag is not the MD5 of what was sent."""
        hashed = self._hash_all or is_hashed(self._upload, part)
        receipt = await send_part(self._attempt, part, slot, hashed=hashed)
        if not check_part(self._upload, receipt, is_second_try=False):
            receipt = await send_part(self._attempt, part, slot, hashed=hashed)
            check_part(self._upload, receipt, is_second_try=True)
        return receipt


def _missing(plan: PartPlan, done: frozenset[int]) -> Iterator[Part]:
    return (plan.part(number) for number in range(1, plan.count + 1) if number not in done)
