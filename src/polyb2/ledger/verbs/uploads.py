"""The record of a multipart upload under way: its plan, its receipts, its Complete. Every write is fenced by the claim."""

from __future__ import annotations

from collections.abc import Collection

from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, PartProof, Receipt, Upload, UploadState
from polyb2.ledger.store import Row, Transaction
from polyb2.ledger.verbs.leases import fence


def begin(tx: Transaction, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof) -> Upload:
    """Own an upload that the target just created; its plan never changes."""
    fence(tx, claim)
    upload = _insert(tx, claim, dest_key, upload_id, plan, proof, UploadState.OPEN)
    _recount(tx, claim, upload)
    return upload


def disown(tx: Transaction, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof) -> None:
    """Record an upload that came into being after its claim was lost: not fenced, only to be aborted."""
    _insert(tx, claim, dest_key, upload_id, plan, proof, UploadState.ABANDONED)


def _insert(
    tx: Transaction,
    claim: Claim,
    dest_key: str,
    upload_id: str,
    plan: PartPlan,
    proof: PartProof,
    state: UploadState,
) -> Upload:
    row = tx.one(
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
    )
    return Upload(row["id"], claim.revision.number, dest_key, upload_id, claim.token, plan, proof, state)


def resumable(tx: Transaction, file_id: int, revision: int) -> Upload | None:
    """The live upload of this revision; one of an older revision is abandoned, and the row's progress with it."""
    if tx.run("uploads_abandon", file_id=file_id, revision=revision):
        tx.run("progress_none", file_id=file_id, fresh=1)
    row = tx.row("upload_live", file_id=file_id)
    return None if row is None else _upload(row)


def add_receipt(tx: Transaction, claim: Claim, upload: Upload, receipt: Receipt) -> None:
    """Make a part's receipt durable."""
    fence(tx, claim)
    number, length = receipt.part.number, receipt.part.length
    again = tx.run("part_delete", upload=upload.row, number=number)
    tx.run("part_insert", upload=upload.row, number=number, length=length, etag=receipt.etag, md5=receipt.md5)
    if again:
        _recount(tx, claim, upload)
    else:
        tx.run("progress_add", file_id=claim.file_id, length=length)
    tx.run("throughput_add", length=length)


def drop_receipts(tx: Transaction, claim: Claim, upload: Upload, numbers: Collection[int]) -> None:
    """Forget receipts that ListParts or the proof did not confirm; those parts are sent again."""
    fence(tx, claim)
    for number in numbers:
        tx.run("part_delete", upload=upload.row, number=number)
    _recount(tx, claim, upload)


def note_completing(tx: Transaction, claim: Claim, upload: Upload) -> None:
    """Note that a Complete is about to be sent."""
    fence(tx, claim)
    tx.run("upload_completing", upload=upload.row)


def note_proof(tx: Transaction, claim: Claim, upload: Upload, proof: PartProof) -> None:
    """Note that the belief about the source's ETag was wrong: the upload is proven by its parts."""
    fence(tx, claim)
    tx.run("upload_proof", upload=upload.row, proof=proof)


def abandon(tx: Transaction, claim: Claim) -> None:
    """Give the claim's live upload up; it stays on record until its abort is confirmed."""
    fence(tx, claim)
    abandon_live(tx, claim.file_id)
    tx.run("progress_none", file_id=claim.file_id, fresh=0)


def abandon_live(tx: Transaction, file_id: int) -> None:
    """Give all live uploads of a file up."""
    tx.run("uploads_abandon", file_id=file_id, revision=0)


def forget(tx: Transaction, upload: Upload) -> None:
    """Delete an abandoned upload: the target confirmed that it is no more."""
    tx.run("upload_delete", upload=upload.row)


def abandoned_of(tx: Transaction, file_id: int) -> list[Upload]:
    """The uploads of a file that wait to be aborted."""
    return [_upload(row) for row in tx.rows("uploads_abandoned_of", file_id=file_id)]


def abandoned(tx: Transaction, after: int, limit: int) -> list[Upload]:
    return [_upload(row) for row in tx.rows("uploads_abandoned", after=after, limit=limit)]


def published_parts(tx: Transaction, file_id: int) -> list[Receipt]:
    """The receipts of the upload that made what the target holds; none where it went in one PUT or was adopted."""
    row = tx.row("upload_published", file_id=file_id)
    return [] if row is None else list(receipts_of(tx, _upload(row)))


def is_owned(tx: Transaction, upload_id: str) -> bool:
    """True if a row of the ledger goes on with this upload."""
    return bool(tx.one("upload_owned", upload_id=upload_id)["owned"])


def has_progressed(tx: Transaction, claim: Claim) -> bool:
    """True if this attempt left more receipts than any before it at this revision (LeaseLostError as for a write)."""
    return bool(fence(tx, claim)["progressed"])


def receipts_of(tx: Transaction, upload: Upload) -> tuple[Receipt, ...]:
    rows = tx.rows("parts_of", upload=upload.row)
    return tuple(Receipt(upload.plan.part(row["number"]), row["etag"], row["md5"]) for row in rows)


def _recount(tx: Transaction, claim: Claim, upload: Upload) -> None:
    tx.run("progress_recount", file_id=claim.file_id, upload=upload.row, parts_total=upload.plan.count)


def _upload(row: Row) -> Upload:
    return Upload(
        row=row["id"],
        revision=row["revision"],
        dest_key=row["dest_key"],
        upload_id=row["upload_id"],
        token=row["token"],
        plan=PartPlan(row["size"], row["part_bytes"]),
        proof=PartProof(row["proof"]),
        state=UploadState(row["state"]),
    )
