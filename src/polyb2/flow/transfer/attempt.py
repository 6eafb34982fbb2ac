"""One file's life from its claim to its proof.

Settle or take over what an earlier attempt left; else choose between one PUT and a multipart upload; send; prove; publish.
Beginning and resuming are one path: an attempt has an upload or begins one, and sends the parts that have no receipt.

Invariant: what :meth:`Attempt.transfer` returns is proven by a rule of ``proof.py``; every other end is an exception.
"""

from __future__ import annotations

import logging

from polyb2 import __version__
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.integrity import ProofMark, composite_parts, md5_form
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.parts import OBJECT_BYTES_MAX, PartPlan, fits_target, plan_parts
from polyb2.core.records import Claim, Mirrored, PartProof, Receipt, StoredObject, StoredPart, Upload
from polyb2.core.recovery import Finding, assess, confirmed
from polyb2.core.stamp import Stamp
from polyb2.core.units import format_size
from polyb2.flow.mirror import InFlight, Mirror
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer import proof
from polyb2.flow.transfer.body import put_whole
from polyb2.flow.transfer.leftovers import abort_abandoned, abort_orphans, look
from polyb2.flow.transfer.publish import find_published, publish
from polyb2.flow.transfer.upload import UPLOADS_MAX, Refusals, UploadRefusedError, begin_upload, send_missing

log = logging.getLogger(__name__)


class Attempt:
    """A claimed file on its way into the target.

    Attributes:
        mirror: the state that all transfers of the process share.
        claim: the right to the row, and the revision that is sent.
        slot: held while bytes move, given back while the attempt waits.
        dest_key: of the object in the target.
        progress: the file as progress displays see it.
        upload: the multipart upload under way; None before there is one, and for a single PUT.
        receipts: the confirmed parts of ``upload``, by number.
        refusals: the target's refusals of ``upload``.
    """

    def __init__(self, mirror: Mirror, claim: Claim, slot: Slot) -> None:
        self.mirror = mirror
        self.claim = claim
        self.slot = slot
        self.dest_key = mirror.target.prefix + claim.key
        self.progress = InFlight(claim.key, claim.dataset, claim.revision.size, claim.attempt)
        self._uploads_begun = 0
        self._use(None, ())

    # -- the story ----------------------------------------------------------------------------------------------------

    async def transfer(self) -> tuple[Mirrored, int]:
        """Make the target hold the claim's revision; return its copy, and the bytes sent that have no receipt.

        Raises:
            RemoteError: of either side, after all tries.
            DrainedError: the process stops.
            LeaseLostError: the claim belongs to another worker.
        """
        size = self.claim.revision.size
        _check_size(size)
        if not self.claim.is_first and (mirrored := await self._settle_earlier()):
            return mirrored, 0
        planned = None
        while True:
            if self.upload is None:
                plan, source_part_bytes = planned = planned or await self._plan()
                if plan.count == 1 and proof.can_be_whole(self.claim.revision):
                    return await self._send_whole(), size
                await self._begin_upload(plan, source_part_bytes)
            if mirrored := await self._finish_upload():
                return mirrored, 0
            await self.slot.rest(0)

    # -- what earlier attempts left -----------------------------------------------------------------------------------

    async def _settle_earlier(self) -> Mirrored | None:
        """Settle what an earlier attempt published, or take over its upload; None if there is still something to send.

        Without an earlier attempt at this revision no object can carry its token, so none is looked for. If the last attempt
        completed the file, no Create was lost, so no uploads are listed.
        """
        claim = self.claim
        await abort_abandoned(self.mirror, claim.file_id)
        if claim.earlier_tokens and (mirrored := await self._settle_or_take_over()):
            return mirrored
        if self.upload is None and not claim.follows_completion:
            await abort_orphans(self.mirror, self.dest_key, None)
        return None

    async def _settle_or_take_over(self) -> Mirrored | None:
        traces = await look(self)
        match assess(self.claim, traces):
            case Finding.LANDED if traces.stored:
                return await proof.prove_landed(self, traces.stored)
            case Finding.WAIT if self.claim.upload:
                if stored := await self._wait_for(self.claim.upload):
                    return await proof.prove_landed(self, stored)
            case Finding.RESUME if self.claim.upload:
                await self._take_over(self.claim.upload, traces.parts or ())
                return None
            case _:
                pass
        if self.claim.upload:
            await self.give_up()
        return None

    async def _wait_for(self, upload: Upload) -> StoredObject | None:
        """Look for minutes, without a slot, for the object of a Complete whose upload is gone."""
        self.slot.release()
        doubt = RemoteError(Side.TARGET, Kind.NO_SUCH_UPLOAD, "a Complete was sent, and its answer was lost")
        try:
            stored = await find_published(self, upload, still_open=doubt)
        except RemoteError as error:
            if error.kind is not Kind.NO_SUCH_UPLOAD:
                raise
            stored = None
        await self.slot.rest(0)
        return stored

    async def _take_over(self, upload: Upload, parts: tuple[StoredPart, ...]) -> None:
        """Go on with an upload, from the receipts that ListParts confirms."""
        receipts = confirmed(self.claim.receipts, parts)
        dropped = {receipt.part.number for receipt in self.claim.receipts} - {one.part.number for one in receipts}
        if dropped:
            await self.mirror.ledger.drop_receipts(self.claim, upload, dropped)
        await abort_orphans(self.mirror, upload.dest_key, upload.upload_id)
        self._use(upload, receipts)

    # -- the way ------------------------------------------------------------------------------------------------------

    async def _plan(self) -> tuple[PartPlan, int | None]:
        """Plan the parts, and the part size of the source's composite ETag: it proves an upload that is cut the same way."""
        mirror, revision = self.mirror, self.claim.revision
        parts, own_bytes = composite_parts(revision.etag), None
        if parts is not None and parts > 1:
            own_bytes = await mirror.source.own_part_bytes(self.claim.key, revision, parts)
        plan = plan_parts(
            revision.size, streams=mirror.slots.total, source_part_bytes=own_bytes, wanted=mirror.part_bytes
        )
        return plan, own_bytes

    async def _send_whole(self) -> Mirrored:
        """Send a small file in one PUT, and prove it. After a refusal its MD5 is taken from the source anew."""
        md5, stamp = md5_form(self.claim.revision.etag), self._stamp(is_proven=not self.mirror.part_etags.are_opaque)
        try:
            stored, sent = await put_whole(self, md5, stamp)
        except RemoteError as error:
            if md5 is None or error.kind is not Kind.BAD_DIGEST:
                raise
            stored, sent = await put_whole(self, await proof.agreed_md5(self, md5), stamp)
        return await proof.prove_whole(self, stored, sent)

    # -- the upload ---------------------------------------------------------------------------------------------------

    async def _begin_upload(self, plan: PartPlan, source_part_bytes: int | None) -> None:
        self._uploads_begun += 1
        wanted = proof.part_proof(
            self.claim.revision, plan, source_part_bytes, is_opaque=self.mirror.part_etags.are_opaque
        )
        stamp = self._stamp(is_proven=wanted is not PartProof.READBACK)
        self._use(await begin_upload(self, plan, wanted, stamp), ())

    def _use(self, upload: Upload | None, receipts: tuple[Receipt, ...]) -> None:
        self.upload = upload
        self.receipts = {receipt.part.number: receipt for receipt in receipts}
        self.refusals = Refusals(self.mirror, self.receipts, is_last=self._is_last)
        self.progress.kept_bytes = self.progress.settled_bytes = sum(receipt.part.length for receipt in receipts)

    @property
    def _is_last(self) -> bool:
        """Tell if no further upload may begin in place of this one."""
        return self._uploads_begun >= UPLOADS_MAX

    async def _finish_upload(self) -> Mirrored | None:
        """Send what is missing, prove, publish; None if the upload was given up and another one is to be begun."""
        try:
            return await self._send_and_publish()
        except proof.OpaqueTargetError:
            await self.mirror.part_etags.note(are_opaque=True)
        except UploadRefusedError as refused:
            self._note_refused(refused)
        except RemoteError as error:
            # Aborted by another program, or completed without effect.
            if error.kind is not Kind.NO_SUCH_UPLOAD or self._is_last:
                raise
        await self.give_up()
        return None

    async def _send_and_publish(self) -> Mirrored:
        try:
            await send_missing(self)
            if self.own_upload.proof is PartProof.READBACK:
                stored = await publish(self)
                await self.slot.rest(0)
                verification = await proof.prove_published(self, stored)
            else:
                verification = await proof.prove_parts(self)
                stored = await publish(self)
                await proof.note_part_etags(self)
        except RemoteError as error:
            raise self.refusals.verdict(error) from None
        return Mirrored(stored.etag, stored.version_id, verification)

    async def send_again(self, numbers: list[int]) -> None:
        """Send parts again that were found wrong, each hashed on the way."""
        await self.mirror.ledger.drop_receipts(self.claim, self.own_upload, numbers)
        for number in numbers:
            self.progress.settled_bytes -= self.receipts.pop(number).part.length
        await send_missing(self, hash_all=True)

    async def give_up(self) -> None:
        """Give the claim's upload up: noted, aborted, confirmed, forgotten, in this order."""
        self._use(None, ())
        await self.mirror.ledger.abandon_upload(self.claim)
        await abort_abandoned(self.mirror, self.claim.file_id)

    def _note_refused(self, refused: UploadRefusedError) -> None:
        """Log that the target refuses this upload; the bytes that are sent again are no progress."""
        self.progress.is_sent_again = True
        extra = log_fields(
            LogEvent.UPLOAD_REFUSED, key=self.claim.key, reason=refused.error.kind, attempt=self.claim.attempt
        )
        words = "%s: the target refuses this upload again and again; it is aborted, and another one begun: %s"
        log.warning(words, self.claim.key, refused.error.found, extra=extra)

    # -- for the steps ------------------------------------------------------------------------------------------------

    @property
    def own_upload(self) -> Upload:
        """The current upload; only asked for if there is one."""
        assert self.upload is not None  # noqa: S101 - see transfer()
        return self.upload

    @property
    def ordered_receipts(self) -> list[Receipt]:
        return [self.receipts[number] for number in sorted(self.receipts)]

    def _stamp(self, *, is_proven: bool) -> Stamp:
        """The marks of the object that this attempt makes: proven before it is published, or by reading it back."""
        revision, mark = self.claim.revision, ProofMark.BEFORE if is_proven else ProofMark.READBACK
        modified_ms = revision.last_modified_ms
        return Stamp(self.claim.token, revision.etag, mark, __version__, modified_ms, modified_ms)


def _check_size(size: int) -> None:
    """Refuse a size beyond what an object may have, before anything is begun, planned or asked for."""
    if not fits_target(size):
        limit = format_size(OBJECT_BYTES_MAX)
        raise RemoteError(Side.SOURCE, Kind.TOO_LARGE, f"the listed size, {size} bytes, is beyond the target's {limit}")
