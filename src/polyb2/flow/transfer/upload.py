"""A large file's upload: created on record, its parts sent in parallel, their receipts durable one by one.

As many lanes send as there are free slots; the first failure ends them all.

B2 binds an upload to a vault. A full vault answers 503 "no uploads available" to every part, or 500 "retry your
upload" to the Complete, for as long as the client asks; another upload lands in another vault. To begin again costs the
stored bytes, so it has to be likely that the refusals are this upload's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polyb2.core.errors import Kind, LeaseLostError, RemoteError, Side
from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import PartProof, Receipt, Upload
from polyb2.core.stamp import Stamp
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.body import send_part
from polyb2.flow.transfer.leftovers import abort_orphans
from polyb2.flow.transfer.proof import OpaqueTargetError, check_part, is_hashed

if TYPE_CHECKING:
    from polyb2.flow.transfer.attempt import Attempt

RECORD_WITHIN_S = 2.0
"""A stopping process waits this long for the answer to a Create, which names the upload that would be left behind."""
REFUSALS_MAX = 5
"""Consecutive refusals that are enough; random refusals of a share of all requests hardly ever reach that."""
UPLOADS_MAX = 3
"""Uploads that one attempt begins, at most; the last one gets all tries."""
RESENT_BYTES_MAX = 1 << 30
"""Bytes that may be sent again on suspicion."""


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

    The slot is given back once no part is left for it: parts backing off may need the slot; waiting for them does not.
    """
    sender = _Sender(attempt, hash_all=hash_all)
    async with asyncio.TaskGroup() as group:
        expansion = group.create_task(sender.expand(group), name=f"expand {attempt.claim.key}")
        await sender.lane(attempt.slot)
        expansion.cancel()
        attempt.slot.release()
    if sender.failure is not None:
        raise sender.failure


class _Sender:
    """Takes the missing parts one by one; lanes share it, and the first failure stops the taking."""

    def __init__(self, attempt: Attempt, *, hash_all: bool) -> None:
        self._attempt = attempt
        self._upload = attempt.own_upload
        self._hash_all = hash_all
        self._missing = _missing(self._upload.plan, frozenset(attempt.receipts))
        self._next = next(self._missing, None)
        self.failure: Exception | None = None

    async def lane(self, slot: Slot) -> None:
        """Send parts with one slot until none is left to take."""
        while part := self._take():
            await self._send(part, slot)

    async def expand(self, group: asyncio.TaskGroup) -> None:
        """Take further slots, as they are free, for one part each."""
        while self._next and self.failure is None:
            slot = await self._attempt.mirror.slots.for_part()
            if part := self._take():
                sending = group.create_task(self._send(part, slot), name=f"part of {self._attempt.claim.key}")
                # A task that is cancelled before its first step could not do so itself.
                sending.add_done_callback(lambda _sending, slot=slot: slot.release())  # type: ignore[misc]
            else:
                slot.release()

    def _take(self) -> Part | None:
        """The next part to send; None if none is left, or one failed."""
        part = self._next if self.failure is None else None
        if part is not None:
            self._next = next(self._missing, None)
        return part

    async def _send(self, part: Part, slot: Slot) -> None:
        attempt = self._attempt
        try:
            attempt.mirror.check_draining()
            receipt = await self._checked(part, slot)
            await attempt.mirror.ledger.add_receipt(attempt.claim, self._upload, receipt)
        except Exception as error:  # noqa: BLE001 - kept, and raised when what is under way has ended
            # The result of part 1 explains the mismatches of other parts, and so do refusals of all parts.
            if self.failure is None or isinstance(error, OpaqueTargetError | UploadRefusedError):
                self.failure = error
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


# -- refusals ---------------------------------------------------------------------------------------------------------------


class UploadRefusedError(Exception):
    """The target refuses this upload: another one is to be begun. ``error`` is its last answer."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(str(error))
        self.error = error


class Refusals:
    """Counts the refusals of one upload in a row, over all of its parts and its Complete."""

    def __init__(self, mirror: Mirror, done: Mapping[int, Receipt], *, is_last: bool) -> None:
        """``done`` are the upload's receipts, as they grow; ``is_last`` forbids a further upload in its place."""
        self._mirror = mirror
        self._done = done
        self._is_last = is_last
        self._was_begun_before = bool(done)
        self._in_a_row: list[RemoteError] = []
        self._others_bytes = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one UploadPart or Complete.

        Raises:
            UploadRefusedError: the refusals are enough, and nothing is lost by another upload.
        """
        try:
            yield
        except RemoteError as error:
            if error.side is Side.TARGET and error.kind is Kind.SERVER_ERROR:
                self._refused(error)
            raise
        self._in_a_row.clear()
        self._was_begun_before = False

    def verdict(self, error: RemoteError) -> Exception:
        """The exception of a transfer that ends with ``error``: the error itself, or the request for another upload."""
        few = min(REFUSALS_MAX, self._mirror.target.guard.policy.tries)
        is_of_them = any(error is refusal for refusal in self._in_a_row)
        if not is_of_them or len(self._in_a_row) < few or self._is_last:
            return error
        is_cheap = self._stored_bytes <= RESENT_BYTES_MAX
        others_get_through = self._bytes_of_others > self._others_bytes
        return UploadRefusedError(error) if is_cheap or others_get_through or self._was_begun_before else error

    def _refused(self, error: RemoteError) -> None:
        if not self._in_a_row:
            self._others_bytes = self._bytes_of_others
        self._in_a_row.append(error)
        if len(self._in_a_row) >= REFUSALS_MAX and not self._done and not self._is_last:
            raise UploadRefusedError(error)

    @property
    def _stored_bytes(self) -> int:
        return sum(receipt.part.length for receipt in self._done.values())

    @property
    def _bytes_of_others(self) -> int:
        """Bytes that this process stored for other files; their growth shows that the target accepts bytes."""
        return sum(self._mirror.meters.stored_bytes.values()) - self._stored_bytes
