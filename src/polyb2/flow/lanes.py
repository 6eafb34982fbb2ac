"""The parts of one upload, sent in parallel: as many lanes as there are free slots, and the first failure ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import Claim, PartProof, Receipt, Upload
from polyb2.flow.mirror import Mirror
from polyb2.flow.refusals import Refusals, UploadRefusedError
from polyb2.flow.stream import agrees, mismatch, send_part
from polyb2.flow.streams import Slot


class OpaqueTargetError(Exception):
    """The target's ETag of part 1 was not its MD5, twice: its part ETags prove nothing."""


async def send_missing(
    mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals, slot: Slot
) -> None:
    """Send every part without a receipt; the first error lets what is under way end and then is raised.

    The slot is given back once no part is left for it: those that back off may need it, and who waits for them does not.
    """
    sender = _Sender(mirror, claim, upload, done, refusals)
    if entry := mirror.in_flight.get(claim.key):
        entry.kept_bytes = entry.settled_bytes = sum(receipt.part.length for receipt in done.values())
    async with asyncio.TaskGroup() as group:
        expansion = group.create_task(sender.expand(group), name=f"expand {claim.key}")
        await sender.lane(slot)
        expansion.cancel()
        slot.release()
    sender.raise_failure()


class _Sender:
    """Takes the missing parts one by one; lanes share it, and the first failure stops the taking."""

    def __init__(
        self, mirror: Mirror, claim: Claim, upload: Upload, done: dict[int, Receipt], refusals: Refusals
    ) -> None:
        self._missing = _missing(upload.plan, frozenset(done))
        self._next = next(self._missing, None)
        self._mirror = mirror
        self._claim = claim
        self._upload = upload
        self._done = done
        self._refusals = refusals
        self._failure: Exception | None = None

    async def lane(self, slot: Slot) -> None:
        """Send parts with one slot until none is left to take."""
        while part := self._take():
            await self._send(part, slot)

    async def expand(self, group: asyncio.TaskGroup) -> None:
        """Take further slots, as they are free, for one part each."""
        while self._next and self._failure is None:
            slot = await self._mirror.streams.for_part()
            if part := self._take():
                sending = group.create_task(self._send(part, slot), name=f"part of {self._claim.key}")
                # A task that is cancelled before its first step could not do so itself.
                sending.add_done_callback(lambda _sending, slot=slot: slot.release())  # type: ignore[misc]
            else:
                slot.release()

    def _take(self) -> Part | None:
        """The next part to send; None where none is left, or one failed."""
        part = self._next if self._failure is None else None
        if part is not None:
            self._next = next(self._missing, None)
        return part

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _send(self, part: Part, slot: Slot) -> None:
        try:
            self._mirror.check_draining()
            receipt = await self._agreed(part, slot)
            await self._mirror.ledger.add_receipt(self._claim, self._upload, receipt)
        except Exception as error:  # noqa: BLE001 - kept, and raised when what is under way has ended
            # What part 1 says about the target explains the other parts' mismatches, and so do refusals of all parts.
            if self._failure is None or isinstance(error, OpaqueTargetError | UploadRefusedError):
                self._failure = error
            return
        self._done[part.number] = receipt
        self._mirror.meters.stored_bytes[self._claim.dataset] += part.length
        if entry := self._mirror.in_flight.get(self._claim.key):
            entry.settled_bytes += part.length

    async def _agreed(self, part: Part, slot: Slot) -> Receipt:
        """Send a part; once more if the target's ETag is not the MD5 of what was sent."""
        proof = self._upload.proof
        hashed = part.number == 1 or proof is not PartProof.ETAG
        for _ in range(2):
            receipt = await send_part(
                self._mirror, self._claim, self._upload, part, slot, hashed=hashed, refusals=self._refusals
            )
            if proof is PartProof.READBACK or agrees(receipt):
                return receipt
        if part.number == 1:
            raise OpaqueTargetError
        raise mismatch(f"the target's ETag of part {part.number} is not the MD5 of what was sent, twice")


def _missing(plan: PartPlan, done: frozenset[int]) -> Iterator[Part]:
    return (plan.part(number) for number in range(1, plan.count + 1) if number not in done)
