"""The shares of the account's limits: on record never more than the whole, whoever comes and goes."""

from __future__ import annotations

import asyncio

import pytest

from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import WHOLE, Load, Share
from polyb2.ledger.sql.loader import load_statements
from tests.ledger.conftest import LEASE_MS, Books

HALF = WHOLE // 2


async def test_who_joins_gets_what_the_others_have_given_up(books: Books) -> None:
    renew = books.ledger.renew
    first = await books.worker("first")
    assert first.share == Share(WHOLE, WHOLE)
    second = await books.worker("second")
    assert second.share == Share(0, HALF)
    assert await renew(second, Load(), 0) == Share(0, HALF)
    assert await renew(first, Load(), WHOLE) == Share(HALF, HALF)
    assert await renew(second, Load(), 0) == Share(0, HALF), "the first may not have heard of it yet"
    assert await renew(first, Load(), HALF) == Share(HALF, HALF)
    third = await books.worker("third")
    assert third.share == Share(WHOLE // 3, WHOLE // 3)
    assert await renew(second, Load(), 0) == Share(WHOLE - HALF - WHOLE // 3, WHOLE // 3), "what there is"


async def test_what_is_left_is_had_by_the_others(books: Books) -> None:
    first, second = await books.worker("first"), await books.worker("second")
    await books.ledger.end_worker(first, "interrupted")
    assert await books.ledger.renew(second, Load(), 0) == Share(WHOLE, WHOLE)
    heir = await books.worker("heir", 10 * LEASE_MS)
    books.clock.go_on(LEASE_MS / 1000 - 1)
    assert await books.ledger.renew(heir, Load(), 0) == Share(0, HALF), "the second is alive, as far as is known"
    books.clock.go_on(1.1)
    assert await books.ledger.renew(heir, Load(), 0) == Share(WHOLE, WHOLE)


async def test_of_many_that_begin_at_once_no_two_get_the_same(books: Books) -> None:
    ledgers = [await open_ledger(books.place.url, books.clock) for _ in range(6)]
    try:
        for _ in range(5):
            workers = await asyncio.gather(*(ledger.register("one of many", LEASE_MS) for ledger in ledgers))
            assert sum(worker.share.granted for worker in workers) == WHOLE
            for worker in workers:
                await books.ledger.end_worker(worker, "interrupted")
    finally:
        for ledger in ledgers:
            await ledger.close()


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # the other has one writer
async def test_who_takes_a_share_waits_for_who_is_taking_one(books: Books) -> None:
    """Else both see what nobody has yet, and take it."""
    lock = load_statements("postgres")["shares_lock"].sql
    books.sql("BEGIN")
    books.sql(lock)
    books.sql(
        "INSERT INTO workers (worker_id, host, version, share, started_ms, lease_ms, lease_wall_ms) "
        "VALUES ('first', '', '', ?, 0, 60000, polyb2.now_ms() + 60000)",
        WHOLE,
    )
    second = asyncio.create_task(books.worker("second"))
    while not second.done() and not books.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        await asyncio.sleep(0.01)
    books.sql("COMMIT")
    assert (await second).share == Share(0, HALF)
