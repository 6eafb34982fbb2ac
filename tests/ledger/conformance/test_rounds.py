"""A round is made by one worker at a time, by the next one when that is gone, and is ended by none that lost it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from polyb2.core.errors import LeaseLostError
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Binding, Load, RoundClaim, Worker
from tests.ledger.conftest import LEASE_MS, Books
from tests.postgres import PostgresServer

EVERY_MS = 900_000
NAME = "listing"


async def take(books: Books, worker: Worker, name: str = NAME, day: str | None = None) -> RoundClaim | None:
    return await books.ledger.take_round(worker, name, EVERY_MS, day)


async def taken(books: Books, worker: Worker, name: str = NAME, day: str | None = None) -> RoundClaim:
    claim = await take(books, worker, name, day)
    assert claim is not None
    return claim


async def go_on(books: Books, milliseconds: int, *alive: Worker) -> None:
    """Let time pass, and workers renew their leases meanwhile."""
    while milliseconds > 0:
        step = min(milliseconds, LEASE_MS // 2)
        books.clock.go_on(step / 1000)
        for worker in alive:
            await books.ledger.renew(worker, Load())
        milliseconds -= step


async def test_one_takes_it_and_makes_it_and_it_is_due_again_when_that_one_said(books: Books) -> None:
    one, two = await books.worker("one"), await books.worker("two")
    claim = await taken(books, one)
    assert await take(books, two) is None
    seen = await books.ledger.round(two, NAME, EVERY_MS)
    assert (seen.is_ours, seen.made_ms, seen.wait_ms) == (False, None, None)
    await books.ledger.end_round(claim, 60_000, "the source was away")
    seen = await books.ledger.round(two, NAME, EVERY_MS)
    assert (seen.is_ours, seen.wait_ms, seen.problem) == (False, 60_000, "the source was away")
    assert [await take(books, worker) for worker in (one, two)] == [None, None]
    await go_on(books, 59_999, one, two)
    assert await take(books, two) is None
    await go_on(books, 1, one, two)
    assert (await taken(books, two)).turn == claim.turn + 1
    assert (await books.ledger.round(two, NAME, EVERY_MS)).problem is None


async def test_rounds_of_other_names_have_nothing_to_do_with_it(books: Books) -> None:
    one, two = await books.worker("one"), await books.worker("two")
    await taken(books, one)
    await taken(books, two, "sweep")


async def test_a_worker_that_wants_it_more_often_than_the_last_one_gets_it_so(books: Books) -> None:
    one, two = await books.worker("one"), await books.worker("two")
    await books.ledger.end_round(await taken(books, one), EVERY_MS)
    await go_on(books, 1000, one, two)
    assert await books.ledger.take_round(two, NAME, 1001) is None
    assert await books.ledger.take_round(two, NAME, 1000) is not None


@pytest.mark.parametrize("how", ["dies", "ends"])
async def test_the_next_one_takes_over_when_its_worker_is_gone(books: Books, how: str) -> None:
    one = await books.worker("one")
    two = await books.worker("two", lease_ms=10 * LEASE_MS)
    lost = await taken(books, one)
    if how == "ends":
        await books.ledger.end_worker(one, "interrupted")
    else:
        await go_on(books, LEASE_MS)
        assert await take(books, two) is None
        await go_on(books, 1)
    claim = await taken(books, two)
    # One that only stood still comes back: what it found does not count.
    with pytest.raises(LeaseLostError):
        await books.ledger.end_round(lost, EVERY_MS)
    with pytest.raises(LeaseLostError):
        await take(books, one)
    assert (await books.ledger.round(two, NAME, EVERY_MS)).made_ms is None
    await books.ledger.end_round(claim, EVERY_MS)


async def test_a_lease_that_ran_out_ends_nothing_even_if_no_other_worker_took_it(books: Books) -> None:
    claim = await taken(books, await books.worker())
    await go_on(books, LEASE_MS + 1)
    with pytest.raises(LeaseLostError):
        await books.ledger.end_round(claim, EVERY_MS)


async def test_a_turn_is_ended_once(books: Books) -> None:
    worker = await books.worker()
    claim = await taken(books, worker)
    await books.ledger.end_round(claim, 0)
    with pytest.raises(LeaseLostError):
        await books.ledger.end_round(claim, 0)
    await taken(books, worker)
    with pytest.raises(LeaseLostError):
        await books.ledger.end_round(claim, 0)


async def test_a_worker_goes_on_with_what_it_did_not_come_to_end(books: Books) -> None:
    worker = await books.worker()
    first = await taken(books, worker)
    assert (await taken(books, worker)).turn == first.turn + 1


async def test_a_run_that_starts_alone_begins_at_once_whatever_the_one_before_it_did(books: Books) -> None:
    one = await books.worker("one")
    await books.ledger.end_round(await taken(books, one), EVERY_MS)
    await books.ledger.end_worker(one, "interrupted")
    await taken(books, await books.worker("two"))


async def test_a_round_of_a_day_counts_for_that_day_whatever_became_of_its_worker(books: Books) -> None:
    one = await books.worker("one")
    await books.ledger.end_round(await taken(books, one, day="2024-01-02"), EVERY_MS)
    await books.ledger.end_worker(one, "interrupted")
    two = await books.worker("two")
    assert await take(books, two, day="2024-01-02") is None
    assert await take(books, two, day="2024-01-03") is not None


async def test_a_clock_that_was_set_back_holds_no_round_up(books: Books) -> None:
    worker = await books.worker(lease_ms=10 * LEASE_MS)
    await books.ledger.end_round(await taken(books, worker, day="2024-01-02"), EVERY_MS)
    books.clock.step(-1)
    if books.clock.server is not None:
        books.clock.server.execute("UPDATE public.set_clock SET now_ms = now_ms - 1000")
    assert await take(books, worker, day="2024-01-02") is not None


async def test_another_pair_has_everything_still_to_do(books: Books) -> None:
    pair = Binding("https://source", "flatfiles", "https://target", "bucket", "")
    await books.ledger.bind(pair)
    worker = await books.worker()
    await books.ledger.end_round(await taken(books, worker), EVERY_MS)
    await books.ledger.bind(Binding("https://source", "flatfiles", "https://target", "other", ""))
    assert await take(books, worker) is not None


async def test_rounds_that_nobody_makes_any_more_are_forgotten(books: Books) -> None:
    await books.ledger.end_round(await taken(books, await books.worker(), "of other datasets"), EVERY_MS)
    books.clock.go_on(EVERY_MS / 1000 + 31 * 24 * 3600)
    await taken(books, await books.worker())
    assert [row["name"] for row in books.sql("SELECT name FROM rounds")] == [NAME]


async def test_of_eight_that_ask_at_once_one_takes_it(books: Books) -> None:
    async with AsyncExitStack() as stack:
        ledgers = [books.ledger]
        for _ in range(7):
            ledgers.append(await open_ledger(books.place.url, books.clock))
            stack.push_async_callback(ledgers[-1].close)
        workers = [await ledger.register(f"worker {number}", LEASE_MS) for number, ledger in enumerate(ledgers)]
        for turn in range(1, 6):
            asked = [ledger.take_round(worker, NAME, EVERY_MS) for ledger, worker in zip(ledgers, workers, strict=True)]
            (claim,) = [claim for claim in await asyncio.gather(*asked) if claim is not None]
            assert claim.turn == turn
            await books.ledger.end_round(claim, 0)


async def test_on_the_servers_clock_a_stopped_worker_is_succeeded_and_refused(server: PostgresServer) -> None:
    """With the clock that a server really has, and connections of their own."""
    database = server.new_database()
    one, two = await open_ledger(server.url(database)), await open_ledger(server.url(database))
    try:
        await _stopped_and_succeeded(one, two)
    finally:
        await one.close()
        await two.close()
        server.drop_database(database)


async def _stopped_and_succeeded(one: Ledger, two: Ledger) -> None:
    stopped = await one.register("one", 100)
    lost = await one.take_round(stopped, NAME, EVERY_MS)
    worker = await two.register("two", LEASE_MS)
    assert lost is not None
    while (claim := await two.take_round(worker, NAME, EVERY_MS)) is None:
        await asyncio.sleep(0.01)
    with pytest.raises(LeaseLostError):
        await one.end_round(lost, EVERY_MS)
    await two.end_round(claim, EVERY_MS)
