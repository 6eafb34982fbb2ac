"""The record of a multipart upload under way: its plan, its receipts, its Complete. Every write is fenced by the claim."""

from __future__ import annotations

from collections.abc import Collection

from polyb2.clock import Moment
from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, PartProof, Receipt, Upload, UploadState
from polyb2.ledger.claims import as_upload, receipts_of
from polyb2.ledger.database import Transaction
from polyb2.ledger.leases import fence


def begin(
    tx: Transaction, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof, now: Moment
) -> Upload:
    """Own an upload that the target just created; its plan never changes."""
    fence(tx, claim, now)
    upload = _insert(tx, claim, dest_key, upload_id, plan, proof, UploadState.OPEN, now)
    tx.run("progress_recount", file_id=claim.file_id, upload=upload.row, parts_total=plan.count)
    return upload


def disown(
    tx: Transaction, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof, now: Moment
) -> None:
    """An upload came into being after its claim was lost: on record, not fenced, only to be aborted."""
    _insert(tx, claim, dest_key, upload_id, plan, proof, UploadState.ABANDONED, now)


def _insert(
    tx: Transaction,
    claim: Claim,
    dest_key: str,
    upload_id: str,
    plan: PartPlan,
    proof: PartProof,
    state: UploadState,
    now: Moment,
) -> Upload:
    row = tx.row(
        "upload_insert",
        file_id=claim.file_id,
        revision=claim.revision.number,
        dest_key=dest_key,
        upload_id=upload_id,
        token=claim.token,
        size=plan.size,
        part_bytes=plan.part_bytes,
        proof=proof,
        state=state,
        wall_ms=now.wall_ms,
    )
    assert row is not None  # noqa: S101 - RETURNING of an insert
    return Upload(row["id"], claim.revision.number, dest_key, upload_id, claim.token, plan, proof, state)


def add_receipt(tx: Transaction, claim: Claim, upload: Upload, receipt: Receipt, now: Moment) -> None:
    """Make a part's receipt durable."""
    fence(tx, claim, now)
    again = tx.run("part_delete", upload=upload.row, number=receipt.part.number)
    tx.run(
        "part_insert",
        upload=upload.row,
        number=receipt.part.number,
        length=receipt.part.length,
        etag=receipt.etag,
        md5=receipt.md5,
        wall_ms=now.wall_ms,
    )
    if again:
        tx.run("progress_recount", file_id=claim.file_id, upload=upload.row, parts_total=upload.plan.count)
    else:
        tx.run("progress_add", file_id=claim.file_id, length=receipt.part.length)
    tx.run("throughput_add", wall_ms=now.wall_ms, length=receipt.part.length)


def drop_receipts(tx: Transaction, claim: Claim, upload: Upload, numbers: Collection[int], now: Moment) -> None:
    """Forget receipts that ListParts or the proof did not confirm; those parts are sent again."""
    fence(tx, claim, now)
    for number in numbers:
        tx.run("part_delete", upload=upload.row, number=number)
    tx.run("progress_recount", file_id=claim.file_id, upload=upload.row, parts_total=upload.plan.count)


def note_state(tx: Transaction, claim: Claim, upload: Upload, state: UploadState, now: Moment) -> None:
    """Note that a Complete is about to be sent, or that the upload turned out to be open after all."""
    fence(tx, claim, now)
    tx.run("upload_state", upload=upload.row, state=state)


def note_proof(tx: Transaction, claim: Claim, upload: Upload, proof: PartProof, now: Moment) -> None:
    """The belief about the source's ETag was wrong: the upload is proven by its parts."""
    fence(tx, claim, now)
    tx.run("upload_proof", upload=upload.row, proof=proof)


def abandon(tx: Transaction, claim: Claim, now: Moment) -> None:
    """Give the claim's live upload up; it stays on record until its abort is confirmed."""
    fence(tx, claim, now)
    tx.run("uploads_abandon", file_id=claim.file_id, revision=0)
    tx.run("progress_none", file_id=claim.file_id)


def forget(tx: Transaction, upload: Upload) -> None:
    """The target confirmed that an abandoned upload is no more."""
    tx.run("upload_delete", upload=upload.row)


def abandoned_of(tx: Transaction, file_id: int) -> list[Upload]:
    return [as_upload(row) for row in tx.rows("uploads_abandoned_of", file_id=file_id)]


def abandoned(tx: Transaction, after: int, limit: int) -> list[Upload]:
    return [as_upload(row) for row in tx.rows("uploads_abandoned", after=after, limit=limit)]


def published_parts(tx: Transaction, file_id: int) -> list[Receipt]:
    """The receipts of the upload that made what the target holds."""
    row = tx.row("upload_published", file_id=file_id)
    return [] if row is None else list(receipts_of(tx, as_upload(row)))


def is_owned(tx: Transaction, upload_id: str) -> bool:
    """Whether a row of the ledger goes on with this upload."""
    row = tx.row("upload_owned", upload_id=upload_id)
    return row is not None and bool(row["owned"])


def has_progressed(tx: Transaction, claim: Claim, now: Moment) -> bool:
    """Whether this attempt left more receipts than any before it at this revision."""
    return bool(fence(tx, claim, now)["progressed"])
