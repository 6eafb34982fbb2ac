"""What the ledger says: counts, rate, time left, rows; in the words of the contract."""

from __future__ import annotations

import json

import pytest

from polyb2.core.errors import Kind
from polyb2.core.selection import EVERYTHING
from polyb2.core.status import Status
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Load
from tests.conftest import DAY_AGGS, QUOTES, key
from tests.ledger.conftest import LEASE_MS, PART, SENT, SIZE, Books, listed

DAY = "2024-01-02"
FILE_KEYS = """
    key, dataset, date, status, reason, size, source_etag, source_last_modified, dest_key, dest_etag, dest_version_id,
    revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done, parts_total,
    parts_done, verification, error_message, discovered_at, started_at, completed_at, next_attempt_at"""
NONE = {status: {"files": 0, "bytes": 0} for status in Status}


async def rate(books: Books) -> float | None:
    return (await books.ledger.status()).rate_bytes_per_s


async def test_an_empty_ledger_counts_nothing_and_knows_no_rate(books: Books) -> None:
    report = (await books.ledger.status()).as_json()
    expected = {"totals": {"files": 0, "bytes": 0, "bytes_done": 0}, "by_status": NONE, "datasets": [], "in_flight": []}
    assert {name: report[name] for name in expected} == expected
    assert (report["rate_bytes_per_s"], report["eta_s"]) == (None, None)


async def test_status_has_the_keys_and_the_counts_of_the_contract(books: Books) -> None:
    await books.discover(listed("2024-01-01", dataset=QUOTES), listed("2024-01-03"), listed(DAY))
    worker = await books.worker("me")
    await books.ledger.complete(await books.claim(worker), SENT)
    claim = await books.claim(worker)
    await books.receive(claim, await books.begin(claim), 1)
    report = json.loads(json.dumps((await books.ledger.status()).as_json()))
    contract = ["totals", "by_status", "datasets", "in_flight", "rate_bytes_per_s", "eta_s"]
    assert list(report)[: len(contract)] == contract
    assert report["totals"] == {"files": 3, "bytes": 3 * SIZE, "bytes_done": SIZE + 10}
    one = {"files": 1, "bytes": SIZE}
    assert report["by_status"] == NONE | {"completed": one, "processing": one, "pending": one}
    assert (
        report["datasets"]
        == [
            {"dataset": QUOTES, **one, "bytes_done": 0, "by_status": NONE | {"pending": one}},
            {
                "dataset": DAY_AGGS,
                "files": 2,
                "bytes": 2 * SIZE,
                "bytes_done": SIZE + 10,
                "by_status": NONE | {"completed": one, "processing": one},
            },
        ]
        or report["datasets"] == []
    )
    assert report["in_flight"] == [
        {"key": key(DAY), "size": SIZE, "bytes_done": 10, "attempt": 1, "worker_id": "me"},
    ]


async def test_the_last_errors_are_shown_with_their_words(books: Books) -> None:
    await books.fail(await books.claimed(listed(DAY)))
    (error,) = (await books.ledger.status()).last_errors
    assert (error.key, error.status, error.reason) == (key(DAY), "failed_download", "stalled")
    assert "it broke" in str(error.error_message)


async def test_the_rate_is_the_bytes_of_receipts_by_the_time_elapsed_sixty_seconds_at_most(books: Books) -> None:
    await books.discover(listed(DAY, size=6000))
    worker = await books.worker(lease_ms=10**7)
    claim = await books.claim(worker)
    upload = await books.begin(claim)
    books.clock.go_on(10)
    assert await rate(books) is None
    await books.receive(claim, upload, *range(1, 31))
    assert await rate(books) == 30
    books.clock.go_on(20)
    assert await rate(books) == 10
    await books.receive(claim, upload, *range(31, 61))
    books.clock.go_on(30)  # the first 300 bytes are 50 s old, the others 30 s
    assert await rate(books) == 10
    books.clock.go_on(15)
    assert await rate(books) == 5
    assert (await books.ledger.status()).eta_s == (6000 - 600) / 5
    books.clock.go_on(60)
    report = await books.ledger.status()
    assert (report.rate_bytes_per_s, report.eta_s) == (0, None)


async def test_bytes_without_receipts_count_for_the_rate_and_a_done_queue_has_no_time_left(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    books.clock.go_on(5)
    await books.ledger.complete(claim, SENT, SIZE)
    report = await books.ledger.status()
    assert (report.rate_bytes_per_s, report.eta_s, report.bytes_left) == (SIZE / 5, 0, 0)


async def test_the_time_of_a_worker_that_ended_long_ago_is_not_elapsed_time(books: Books) -> None:
    claim = await books.claimed(listed("2024-01-01"))
    await books.ledger.complete(claim, SENT, SIZE)
    books.clock.go_on(3600)
    claim = await books.claimed(listed(DAY))
    books.clock.go_on(3)
    await books.ledger.complete(claim, SENT, SIZE)
    assert await rate(books) == SIZE / 3


async def test_parked_and_completed_files_leave_nothing_to_wait_for(books: Books) -> None:
    await books.fail(await books.claimed(listed(DAY)), Kind.UNSUPPORTED)
    report = await books.ledger.status()
    assert (report.bytes_left, report.totals.by_status[Status.PERMANENT_FAILURE]["files"]) == (0, 1)


async def test_no_time_left_is_negative_when_a_file_in_work_is_replaced_by_a_smaller_one(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    await books.receive(claim, await books.begin(claim), 1, 2)
    await books.discover(listed(DAY, "b", size=5))
    report = await books.ledger.status()
    assert report.bytes_left >= 0


async def test_a_row_has_the_keys_of_the_contract_and_times_in_utc(books: Books) -> None:
    await books.discover(listed(DAY, modified=1_704_200_000_500))
    await books.fail(await books.claim(await books.worker("me")))
    (row,) = await books.found()
    shown = json.loads(json.dumps(row.as_json()))
    assert set(shown) == {name.strip() for name in FILE_KEYS.split(",")}
    assert shown["source_last_modified"] == "2024-01-02T12:53:20.500Z"
    assert shown["discovered_at"] == shown["started_at"] == "2026-01-01T00:00:00.000Z"
    assert (shown["next_attempt_at"], shown["completed_at"]) == ("2026-01-01T00:00:30.000Z", None)
    assert (shown["key"], shown["dataset"], shown["date"], shown["worker_id"]) == (key(DAY), DAY_AGGS, DAY, "me")


async def test_rows_come_in_key_order_over_pages_while_the_ledger_is_written(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyb2.ledger.ledger.PAGE_ROWS", 3)
    days = [f"2024-01-{day:02}" for day in range(1, 11)]
    await books.discover(*map(listed, days))
    rows = books.ledger.files(EVERYTHING)
    seen = [(await anext(rows)).date]
    await books.unqueue(key(days[4]))
    seen += [row.date async for row in rows]
    assert seen == [day for day in days if day != days[4]]


async def test_status_shows_who_is_at_work_and_their_load(books: Books) -> None:
    living, dead = await books.ledger.register("living", LEASE_MS, "a host", "1.0"), await books.worker("dead")
    await books.ledger.renew(dead, Load(1, 2))
    await books.ledger.end_worker(dead, "interrupted")
    await books.ledger.renew(living, Load(3, 32, source_rps=None, target_rps=12.5))
    (runner,) = (await books.ledger.status()).as_json()["runners"]
    begun = runner.pop("started_at")
    assert runner == {
        "worker_id": "living", "host": "a host", "version": "1.0", "since": begun, "rate_bytes_per_s": None,
        "streams_in_use": 3, "streams_allowed": 32, "source_rps": None, "target_rps": 12.5,
    }  # fmt: skip
    assert begun.endswith("Z")


async def test_the_rate_of_a_runner_goes_by_its_own_receipts_and_time(books: Books) -> None:
    await books.discover(listed("2024-01-01"), listed(DAY))
    early = await books.worker("early", 10 * LEASE_MS)
    claim = await books.claim(early)
    upload = await books.begin(claim)
    books.clock.go_on(20)
    late = await books.worker("late", 10 * LEASE_MS)
    await books.ledger.complete(await books.claim(late), SENT, SIZE)

    async def rates() -> list[float | None]:
        report = await books.ledger.status()
        return [runner.rate_bytes_per_s for runner in report.runners]

    assert await rates() == [None, SIZE / 1]
    books.clock.go_on(10)
    await books.receive(claim, upload, 1)
    assert await rates() == [PART / 30, SIZE / 10]
    assert (await books.ledger.status()).rate_bytes_per_s == (PART + SIZE) / 30
    books.clock.go_on(65)
    assert await rates() == [0, 0]


async def test_a_reader_reports_what_the_writer_does(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    books.clock.go_on(4)
    await books.ledger.complete(claim, SENT, SIZE)
    reader = await open_ledger(books.place.url, books.clock, read_only=True)
    assert (await reader.status()).as_json() == (await books.ledger.status()).as_json()
    assert await reader.datasets() == [DAY_AGGS]
    await reader.close()


async def test_a_file_waits_since_it_entered_the_queue(books: Books) -> None:
    """A retry does not make it younger; a new revision of a mirrored file does not make it older."""

    async def waiting() -> dict[str, float]:
        since_ms = await books.ledger.waiting_since()
        return {name: (books.clock.moment.wall_ms - ms) / 1000 for name, ms in since_ms.items()}

    await books.discover(listed("2024-01-01", dataset=QUOTES), listed(DAY))
    books.clock.go_on(10)
    await books.discover(listed("2024-01-03"))
    worker = await books.worker()
    for _ in range(2):
        await books.ledger.complete(await books.claim(worker), SENT)
    assert await waiting() == {QUOTES: 10}
    await books.fail(await books.claim(worker), delay_s=1)
    books.clock.go_on(5)
    assert await waiting() == {QUOTES: 15}
    await books.discover(listed(DAY, "b"))
    books.clock.go_on(7)
    assert await waiting() == {DAY_AGGS: 7, QUOTES: 22}
    await books.fail(await books.claim(await books.worker()), kind=Kind.UNSUPPORTED)
    assert await waiting() == {QUOTES: 22}
    assert await books.requeue(key(DAY)) == 1
    assert await waiting() == {DAY_AGGS: 0, QUOTES: 22}


async def test_a_last_error_tells_when_it_was_and_when_it_is_tried_again(books: Books) -> None:
    await books.discover(listed(DAY))
    await books.fail(await books.claim(), delay_s=30)
    (error,) = (await books.ledger.status()).last_errors
    assert (error.key, error.status) == (key(DAY), "failed_download")
    assert (error.as_json()["failed_at"], error.as_json()["next_attempt_at"]) == (
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:30.000Z",
    )
