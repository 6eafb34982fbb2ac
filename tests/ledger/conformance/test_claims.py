"""Who gets which row, and for how long it is theirs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import pytest

from polyb2.clock import Clock, Moment
from polyb2.config import Settings
from polyb2.core.errors import Kind, LeaseLostError, Side
from polyb2.ledger.rows import Load, QueueState
from tests.conftest import DAY_AGGS, QUOTES, key
from tests.ledger.conftest import LEASE_MS, SENT, SIZE, Books, listed, python

OTHER = "us_indices/day_aggs_v1"
LEASE_S = LEASE_MS / 1000


async def drain(books: Books, at_once: int = 1) -> list[str]:
    """The keys in the order in which one worker claims them, so many at once."""
    worker, keys = await books.worker(), []
    while claims := await books.ledger.claim_up_to(worker, at_once):
        keys += [claim.key for claim in claims]
    return keys


async def test_the_resumable_file_then_the_newest_date_then_the_smaller_is_claimed(books: Books) -> None:
    claim = await books.claimed(listed("2024-01-02"))
    await books.receive(claim, await books.begin(claim), 1)
    await books.fail(claim, delay_s=0)  # due, with a receipt
    await books.discover(
        listed("2024-01-04"), listed("2024-01-03"), listed("2024-01-05", size=9), listed("2024-01-05", dataset=QUOTES)
    )
    assert await drain(books) == [
        key("2024-01-02"),
        key("2024-01-05"),
        key("2024-01-05", QUOTES),
        key("2024-01-04"),
        key("2024-01-03"),
    ]


@pytest.mark.parametrize("at_once", [1, 3, 7, 32])
async def test_every_fourth_claim_goes_to_the_dataset_that_waited_longest(books: Books, at_once: int) -> None:
    await books.discover(*(listed(f"2024-02-{day:02}") for day in range(1, 13)))
    await books.discover(*(listed(f"2024-01-{day:02}", dataset=QUOTES) for day in range(1, 4)))
    await books.discover(*(listed(f"2023-01-{day:02}", dataset=OTHER) for day in range(1, 4)))
    keys = await drain(books, at_once)
    assert len(set(keys)) == len(keys) == 18
    assert [name.rsplit("/", 3)[0] for name in keys[3:16:4]] == [OTHER, QUOTES, OTHER, QUOTES]
    assert keys[7] == key("2024-01-03", QUOTES)
    rest = [name for place, name in enumerate(keys[:12]) if place % 4 != 3]
    assert rest == [key(f"2024-02-{day:02}") for day in range(12, 3, -1)]


async def test_the_fourth_claim_also_sees_a_dataset_whose_files_are_due_again(books: Books) -> None:
    claim = await books.claimed(listed("2023-01-02", dataset=QUOTES))
    await books.fail(claim, delay_s=0)
    await books.discover(*(listed(f"2024-02-{day:02}") for day in range(1, 9)))
    assert key("2023-01-02", QUOTES) in (await drain(books))[:4]


async def test_a_failed_file_is_claimed_when_its_back_off_is_over_and_not_before(books: Books) -> None:
    claim = await books.claimed(listed("2024-01-02"))
    await books.fail(claim, delay_s=30)
    worker = await books.worker()
    due = books.clock.wall_ms() + 30_000
    assert await books.ledger.queue_state(worker) == QueueState(pending=False, next_attempt_ms=due, held=0)
    books.clock.go_on(29.999)
    assert await books.next_claim(worker) is None
    books.clock.go_on(0.001)
    again = await books.claim(worker)
    assert (again.key, again.attempt, again.retry_count, again.is_first) == (claim.key, 2, 1, False)
    assert books.row("2024-01-02")["next_attempt_ms"] is None


async def test_a_back_off_that_lies_impossibly_far_ahead_is_due(books: Books) -> None:
    await books.fail(await books.claimed(listed("2024-01-02")), delay_s=30)
    books.clock.step(-7000)
    assert await books.next_claim(await books.worker()) is None  # it may have been set so
    books.clock.step(-1000)
    await books.claim()


async def test_the_state_of_the_queue_says_what_there_is_to_wait_for(books: Books) -> None:
    worker, other = await books.worker("one"), await books.worker("other")
    assert (await books.ledger.queue_state(worker)).is_empty
    await books.discover(listed("2024-01-02"))
    assert await books.ledger.queue_state(worker) == QueueState(pending=True, next_attempt_ms=None, held=0)
    claim = await books.claim(other)
    assert await books.ledger.queue_state(worker) == QueueState(pending=False, next_attempt_ms=None, held=1)
    assert (await books.ledger.queue_state(other)).is_empty
    await books.ledger.complete(claim, SENT)
    assert (await books.ledger.queue_state(worker)).is_empty


async def test_a_claim_is_noted_on_the_row_and_as_an_attempt(books: Books) -> None:
    await books.discover(listed("2024-01-02", "etag", modified=7))
    claim = await books.claim(await books.worker("me"))
    row = books.row("2024-01-02")
    assert (row["status"], row["worker_id"], row["attempt"]) == ("processing", "me", 1)
    assert row["started_at_ms"] == books.clock.wall_ms()
    revision = claim.revision
    assert (revision.number, revision.etag, revision.size, revision.last_modified_ms) == (1, "etag", SIZE, 7)
    assert (claim.dataset, claim.is_first, claim.earlier_tokens, claim.upload) == (DAY_AGGS, True, frozenset(), None)
    (attempt,) = books.sql("SELECT * FROM attempts")
    assert (attempt["attempt"], attempt["token"], attempt["worker_id"]) == (1, claim.token, "me")


async def test_only_the_newest_attempts_are_kept(books: Books) -> None:
    await books.discover(listed("2024-01-02"))
    for _ in range(55):
        claim = await books.claim()
        await books.fail(claim, Kind.CAP_EXCEEDED, Side.TARGET)
    assert books.sql("SELECT min(attempt) AS a, count(*) AS n FROM attempts") == [{"a": 6, "n": 50}]


# -- one live claim a row -----------------------------------------------------------------------------------------------


async def test_many_claimers_at_once_get_each_row_once(books: Books) -> None:
    await books.discover(*(listed(f"2024-01-{day:02}") for day in range(1, 31)))
    workers = [await books.worker(f"w{number}") for number in range(3)]
    claims = await asyncio.gather(*(books.next_claim(worker) for worker in workers * 12))
    claimed = Counter(claim.key for claim in claims if claim)
    assert (len(claimed), set(claimed.values()), claims.count(None)) == (30, {1}, 6)


CLAIM_ALL = """
import asyncio, sys
from polyb2.ledger.open import open_ledger

async def main():
    ledger = await open_ledger(sys.argv[1])
    worker = await ledger.register(sys.argv[2], int(sys.argv[3]))
    print("ready", flush=True)
    sys.stdin.readline()
    while claim := next(iter(await ledger.claim_up_to(worker, 1)), None):
        print(claim.key, flush=True)
    sys.stdin.readline()
    await ledger.close()

asyncio.run(main())
"""


async def test_ancestor_two_workers_cannot_claim_one_row(books: Books) -> None:
    keys = [listed(f"2024-0{month}-{day:02}") for month in (1, 3) for day in range(1, 31)]
    await books.discover(*keys)
    processes = [await python(CLAIM_ALL, books.place.url, name, LEASE_MS) for name in ("one", "two")]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ended = await asyncio.gather(*(process.communicate(b"go\nend\n") for process in processes))
    claimed = [out.decode().split() for out, _ in ended]
    assert sorted(claimed[0] + claimed[1]) == sorted(item.key for item in keys)
    assert {row["attempt"] for row in books.sql("SELECT attempt FROM files")} == {1}


# -- leases -------------------------------------------------------------------------------------------------------------


async def test_ancestor_a_crash_leaves_no_row_in_processing(books: Books) -> None:
    await books.discover(listed("2024-01-02"))
    process = await python(CLAIM_ALL, books.place.url, "doomed", LEASE_MS)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    assert [await process.stdout.readline() for _ in range(2)] == [b"ready\n", f"{key('2024-01-02')}\n".encode()]
    os.kill(process.pid, signal.SIGKILL)
    await process.communicate()
    books.clock.moment = Clock().now()  # that of the process
    survivor = await books.worker("survivor", 10 * LEASE_MS)
    assert await books.next_claim(survivor) is None
    assert books.status("2024-01-02") == "processing"
    books.clock.go_on(LEASE_S)
    assert (await books.claim(survivor)).attempt == 2


def test_ancestor_worker_ids_differ() -> None:
    assert len({Settings().ledger.worker_id for _ in range(50)}) == 50


@pytest.mark.parametrize("step_s", [0, 86_400, -86_400, 3 * LEASE_S, -3 * LEASE_S])
async def test_a_lease_lasts_its_time_whatever_the_wall_clock_does(books: Books, step_s: float) -> None:
    await books.discover(listed("2024-01-02"))
    first = await books.worker("first")
    claim = await books.claim(first)
    books.clock.step(step_s)
    second = await books.worker("second", 10 * LEASE_MS)
    books.clock.go_on(LEASE_S - 1)
    assert await books.next_claim(second) is None
    await books.ledger.has_progressed(claim)
    await books.ledger.renew(first, Load())
    books.clock.go_on(LEASE_S)
    assert await books.next_claim(second) is None
    books.clock.go_on(0.001)
    assert (await books.claim(second)).attempt == 2


async def test_a_lease_of_another_boot_goes_by_the_wall_clock(books: Books) -> None:
    await books.discover(listed("2024-01-02"))
    await books.claim(await books.worker("before"))
    books.clock.go_on(LEASE_S - 2)
    books.clock.reboot()
    after = await books.worker("after", 10 * LEASE_MS)
    assert await books.next_claim(after) is None
    books.clock.go_on(2.001)
    await books.claim(after)


@pytest.mark.parametrize("is_this_boot", [True, False], ids=["this boot", "another boot"])
async def test_a_lease_from_the_future_does_not_stand(books: Books, is_this_boot: bool) -> None:
    """The monotonic clock began again under the same boot id (a container that was moved), or the wall clock was set back."""
    await books.discover(listed("2024-01-02"))
    claim = await books.claim()
    now = books.clock.moment
    if is_this_boot:
        books.clock.moment = Moment(now.wall_ms, 1000, now.boot_id)
    else:
        books.clock.reboot()
        books.clock.step(-86_400)
    with pytest.raises(LeaseLostError):
        await books.ledger.complete(claim, SENT)
    assert (await books.claim()).attempt == 2


@pytest.mark.parametrize("taken", [False, True])
async def test_a_lease_that_ran_out_is_lost_even_if_nobody_took_the_row(books: Books, taken: bool) -> None:
    await books.discover(listed("2024-01-02"))
    worker = await books.worker()
    claim = await books.claim(worker)
    books.clock.go_on(LEASE_S + 0.001)
    if taken:
        await books.claim()
    with pytest.raises(LeaseLostError):
        await books.ledger.renew(worker, Load())
    with pytest.raises(LeaseLostError):
        await books.ledger.complete(claim, SENT)
    assert books.status("2024-01-02") == "processing"


async def test_a_worker_without_its_lease_claims_nothing(books: Books) -> None:
    await books.discover(listed("2024-01-02"))
    worker = await books.worker()
    books.clock.go_on(LEASE_S + 0.001)
    with pytest.raises(LeaseLostError):
        await books.next_claim(worker)


async def test_a_takeover_knows_what_the_dead_attempt_left(books: Books) -> None:
    first = await books.claimed(listed("2024-01-02"))
    upload = await books.begin(first)
    await books.receive(first, upload, 1, 3)
    books.clock.go_on(LEASE_S + 0.001)
    second = await books.claim()
    assert (second.attempt, second.retry_count, set(second.earlier_tokens)) == (2, 0, {first.token})
    assert second.upload == upload
    assert [receipt.part.number for receipt in second.receipts] == [1, 3]
    assert second.token != first.token
    ends = books.sql("SELECT outcome, reason FROM attempts ORDER BY attempt")
    assert ends == [{"outcome": "lost", "reason": "lease_lost"}, {"outcome": None, "reason": None}]


async def test_a_worker_that_ends_gives_its_rows_back_uncharged(books: Books) -> None:
    await books.discover(listed("2024-01-02"), listed("2024-01-03"), listed("2024-01-04"))
    worker, other = await books.worker(), await books.worker("other")
    claims = [await books.claim(worker) for _ in range(2)]
    await books.claim(other)
    await books.ledger.end_worker(worker, "interrupted")
    rows: list[dict[str, Any]] = books.sql("SELECT * FROM files ORDER BY date DESC")
    assert [row["status"] for row in rows] == ["pending", "pending", "processing"]
    assert [(row["reason"], row["retry_count"], row["worker_id"]) for row in rows[:2]] == [("interrupted", 0, None)] * 2
    for call in (books.ledger.complete(claims[0], SENT), books.ledger.renew(worker, Load())):
        with pytest.raises(LeaseLostError):
            await call
    assert (await books.claim(other)).attempt == 2


async def test_workers_long_gone_are_forgotten_and_living_ones_are_not(books: Books) -> None:
    await books.discover(listed("2024-01-02"))
    holder, _, living = await books.worker("holder"), await books.worker("gone"), await books.worker("living", 10**8)
    await books.claim(holder)
    books.clock.go_on(2 * 3600)
    await books.worker("new")
    assert [row["worker_id"] for row in books.sql("SELECT worker_id FROM workers")] == ["holder", "living", "new"]
    await books.ledger.renew(living, Load())
