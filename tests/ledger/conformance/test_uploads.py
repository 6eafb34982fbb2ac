"""The record of an upload under way: its plan, its receipts, and what a successor finds."""

from __future__ import annotations

import sqlite3

import pytest

from polyb2.core.errors import LeaseLostError
from polyb2.core.parts import PartPlan
from polyb2.core.records import PartProof, Receipt, UploadState
from polyb2.ledger.rows import Worker
from tests.ledger.conftest import SENT, SIZE, Books, listed

DAY = "2024-01-02"


def progress(books: Books) -> tuple[int, int, int | None, int]:
    row = books.row(DAY)
    return row["bytes_done"], row["parts_done"], row["parts_total"], row["resumable"]


async def test_an_upload_keeps_its_plan_and_its_token(books: Books) -> None:
    claim = await books.claimed(listed(DAY, size=25))
    upload = await books.begin(claim)
    assert (upload.plan.size, upload.plan.part_bytes, upload.plan.count, upload.token) == (25, 10, 3, claim.token)
    assert progress(books) == (0, 0, 3, 0)
    await books.receive(claim, upload, 3)
    assert progress(books) == (5, 1, 3, 1)
    successor = await books.take_over()
    assert successor.upload == upload
    with pytest.raises(sqlite3.IntegrityError):
        await books.begin(successor, "second")
    assert books.uploads() == {"u1": "open"}


async def test_receipts_are_durable_in_any_order_with_our_hash(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    receipts = [Receipt(upload.plan.part(number), f"e{number}", f"m{number}") for number in (3, 1)]
    for receipt in receipts:
        await books.ledger.add_receipt(claim, upload, receipt)
    assert list((await books.take_over()).receipts) == receipts[::-1]
    assert progress(books) == (20, 2, 3, 1)


async def test_a_receipt_given_twice_counts_once(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    await books.receive(claim, upload, 1, 1)
    assert progress(books) == (10, 1, 3, 1)


async def test_dropped_receipts_are_sent_again(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    await books.receive(claim, upload, 1, 2, 3)
    await books.ledger.drop_receipts(claim, upload, [1, 3])
    assert progress(books) == (10, 1, 3, 1)
    await books.receive(claim, upload, 1)
    await books.ledger.drop_receipts(claim, upload, [1, 2])
    assert progress(books) == (0, 0, 3, 0)
    assert (await books.take_over()).receipts == ()


async def test_progress_is_more_receipts_than_any_failed_attempt_left(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    assert await books.ledger.has_progressed(claim) is False
    await books.receive(claim, upload, 1)
    assert await books.ledger.has_progressed(claim) is True
    await books.fail(claim, delay_s=0)
    claim = await books.claim()
    assert await books.ledger.has_progressed(claim) is False
    await books.receive(claim, upload, 2)
    assert await books.ledger.has_progressed(claim) is True


@pytest.mark.parametrize("state", [UploadState.COMPLETING, UploadState.OPEN])
async def test_the_successor_knows_whether_a_complete_was_sent(books: Books, state: UploadState) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    if state is UploadState.COMPLETING:
        await books.ledger.note_completing(claim, upload)
    await books.ledger.note_proof(claim, upload, PartProof.READBACK)
    found = (await books.take_over()).upload
    assert found is not None
    assert (found.row, found.state, found.proof) == (upload.row, state, PartProof.READBACK)


async def test_an_abandoned_upload_stays_on_record_until_its_abort_is_confirmed(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    upload = await books.begin(claim)
    await books.receive(claim, upload, 1)
    assert await books.ledger.owns_upload("u1")
    await books.ledger.forget_upload(upload)  # not abandoned: it stays
    assert books.uploads() == {"u1": "open"}
    await books.ledger.abandon_upload(claim)
    assert (progress(books), await books.ledger.owns_upload("u1")) == ((0, 0, None, 0), False)
    (left,) = await books.ledger.abandoned_uploads(claim.file_id)
    assert (left.upload_id, left.dest_key, left.state) == ("u1", upload.dest_key, UploadState.ABANDONED)
    again = await books.begin(claim, "u2")
    assert (await books.take_over()).upload == again
    await books.ledger.forget_upload(left)
    assert await books.ledger.abandoned_uploads(claim.file_id) == []
    assert books.uploads() == {"u2": "open"}
    assert books.sql("SELECT * FROM parts") == []


async def test_every_abandoned_upload_is_found_page_by_page(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.ledger.ledger.PAGE_ROWS", 2)
    claim = await books.claimed(listed(DAY))
    for number in range(5):
        await books.begin(claim, f"u{number}")
        await books.ledger.abandon_upload(claim)
    found = [upload.upload_id async for upload in books.ledger.all_abandoned_uploads()]
    assert found == [f"u{number}" for number in range(5)]


async def test_the_upload_of_an_older_revision_is_never_resumed(books: Books) -> None:
    claim = await books.claimed(listed(DAY, "a"))
    await books.receive(claim, await books.begin(claim), 1)
    await books.discover(listed(DAY, "b"))
    second = await books.take_over()
    assert (second.revision.etag, second.upload, second.receipts) == ("b", None, ())
    assert second.earlier_tokens == frozenset()
    assert (books.uploads(), progress(books)) == ({"u1": "abandoned"}, (0, 0, None, 0))


async def test_disowned_attempts_are_not_recognised_again(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.ledger.complete(claim, SENT, SIZE)
    assert await books.requeue(disown=True) == 1
    assert progress(books) == (0, 0, 1, 0)
    again = await books.claim()
    assert (again.attempt, again.earlier_tokens) == (2, frozenset())


@pytest.mark.parametrize("takes_over", [True, False], ids=["taken over", "settled"])
async def test_receipts_of_an_older_revision_do_not_measure_the_newer(books: Books, takes_over: bool) -> None:
    claim = await books.claimed(listed(DAY))
    await books.receive(claim, await books.begin(claim), 1, 2)
    await books.discover(listed(DAY, "b"))
    if not takes_over:
        await books.fail(claim)
    newer = await books.take_over() if takes_over else await books.claim()
    assert (newer.revision.number, newer.upload, newer.receipts) == (2, None, ())
    await books.receive(newer, await books.begin(newer, "u2"), 1)
    assert await books.ledger.has_progressed(newer) is True


async def test_an_upload_of_a_lost_claim_is_on_record_to_be_aborted(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    taken = await books.take_over()
    own = await books.begin(taken, "own")
    with pytest.raises(LeaseLostError):
        await books.begin(claim, "late")
    await books.ledger.disown_upload(claim, "to/" + claim.key, "late", own.plan, own.proof)
    assert books.uploads() == {"own": "open", "late": "abandoned"}
    assert [item.upload_id async for item in books.ledger.all_abandoned_uploads()] == ["late"]


async def test_an_upload_of_a_lost_claim_outlives_its_row(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.ledger.end_worker(Worker(claim.worker, "w"), "test")
    assert await books.unqueue() == 1
    await books.ledger.disown_upload(claim, "to/" + claim.key, "late", PartPlan(30, 10), PartProof.PARTS)
    assert books.uploads() == {"late": "abandoned"}


async def test_what_was_published_keeps_its_receipts(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    assert await books.ledger.published_parts(claim.file_id) == []
    await books.receive(claim, await books.begin(claim), 1, 2, 3)
    await books.ledger.complete(claim, SENT)
    kept = [(item.part.number, item.etag) for item in await books.ledger.published_parts(claim.file_id)]
    assert kept == [(1, "part-1"), (2, "part-2"), (3, "part-3")]
    await books.discover(listed(DAY, "b"))
    newer = await books.claim()
    await books.receive(newer, await books.begin(newer, "u2"), 1)
    assert [item.part.number for item in await books.ledger.published_parts(claim.file_id)] == [1, 2, 3]
    await books.ledger.complete(newer, SENT)
    assert [item.part.number for item in await books.ledger.published_parts(claim.file_id)] == [1]
