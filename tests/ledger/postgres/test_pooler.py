"""Through pgbouncer, which hands each transaction to another session: tests of the conformance suite, and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from polyb2.ledger.open import open_ledger
from tests.ledger.conformance.test_claims import (
    test_a_takeover_knows_what_the_dead_attempt_left as test_takeover,
)
from tests.ledger.conformance.test_claims import (
    test_ancestor_two_workers_cannot_claim_one_row as test_two_workers,
)
from tests.ledger.conformance.test_settlements import (
    test_one_that_lost_its_row_takes_none_that_ends_with_it_along as test_lost_row,
)
from tests.ledger.conformance.test_settlements import (
    test_transfers_that_end_together_are_settled_each_as_its_own as test_settled_together,
)
from tests.ledger.conftest import SENT, Books, listed
from tests.ledger.places import Place, PostgresPlace, SetClock
from tests.postgres import Pooler, PostgresServer, pooler_missing

__all__ = ["test_lost_row", "test_settled_together", "test_takeover", "test_two_workers"]


@pytest.fixture(scope="module")
def pooler(server: PostgresServer) -> Iterator[Pooler]:
    if reason := pooler_missing():
        pytest.skip(reason)
    with Pooler(server) as pooler:
        yield pooler


@pytest.fixture
def place(server: PostgresServer, pooler: Pooler, clock: SetClock) -> Iterator[Place]:
    found = PostgresPlace(server, clock)
    found.url = pooler.url(found.database)
    yield found
    found.close()


async def test_a_pooler_that_is_restarted_is_waited_for(books: Books, pooler: Pooler) -> None:
    claim = await books.claimed(listed("2024-01-02"))
    ledger = await open_ledger(books.place.url, retry=lambda _error, waited_s: waited_s < 30)
    await ledger.remember("a fact", "so that there is a connection")
    pooler.kill()
    settling = asyncio.create_task(ledger.complete(claim, SENT))
    while ledger.trouble is None and not settling.done():
        await asyncio.sleep(0.01)
    pooler.start()
    assert await settling
    await ledger.close()
    assert books.status("2024-01-02") == "completed"
