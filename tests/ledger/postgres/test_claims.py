"""Claims of many hosts at once: no row twice, nobody waits for another's transaction, and the attempt's own token counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace

import pytest

from polyb2.core.errors import LeaseLostError
from polyb2.core.keys import parse_key
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from tests.conftest import QUOTES, key
from tests.ledger.conftest import LEASE_MS, SENT, listed
from tests.postgres import PostgresServer

HOSTS = 6
DAYS = [f"2024-{month:02}-{day:02}" for month in (1, 2, 3) for day in range(1, 21)]


@pytest.fixture
async def hosts(server: PostgresServer, database: str) -> AsyncIterator[list[Ledger]]:
    async with AsyncExitStack() as opened:
        ledgers = []
        for _ in range(HOSTS):
            ledger = await open_ledger(server.url(database))
            opened.push_async_callback(ledger.close)
            ledgers.append(ledger)
        yield ledgers


async def discover(ledger: Ledger, *days: str) -> None:
    found = [(parse_key(item.key), item) for day in days for item in (listed(day), listed(day, dataset=QUOTES))]
    await ledger.record([Discovered(name, item) for name, item in found if name], "")


async def test_hosts_that_claim_at_once_never_get_a_row_twice(hosts: list[Ledger]) -> None:
    await discover(hosts[0], *DAYS)
    taken: Counter[str] = Counter()

    async def work(ledger: Ledger, at_once: int) -> None:
        worker = await ledger.register("worker", LEASE_MS)
        while claims := await ledger.claim_up_to(worker, at_once):
            taken.update(claim.key for claim in claims)
            await asyncio.gather(*(ledger.complete(claim, SENT) for claim in claims))

    await asyncio.gather(*(work(ledger, 1 + number % 3) for number, ledger in enumerate(hosts) for _ in range(2)))
    assert set(taken.values()) == {1}
    assert len(taken) == 2 * len(DAYS)
    status = await hosts[0].status()
    assert (status.totals.files, status.totals.bytes_left, len(status.in_flight)) == (2 * len(DAYS), 0, 0)


async def test_a_row_that_another_transaction_holds_is_passed_over(
    hosts: list[Ledger], server: PostgresServer, database: str
) -> None:
    await discover(hosts[0], "2024-01-02", "2024-01-03")
    best = key("2024-01-03", QUOTES), key("2024-01-03")
    worker = await hosts[0].register("worker", LEASE_MS)
    with closing(server.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM polyb2.files WHERE key = ANY(%s) FOR NO KEY UPDATE", (list(best),))
        claims = await asyncio.wait_for(hosts[0].claim_up_to(worker, 4), 5)
        assert {claim.key for claim in claims} == {key("2024-01-02", QUOTES), key("2024-01-02")}
        other.execute("ROLLBACK")
    assert {claim.key for claim in await hosts[0].claim_up_to(worker, 4)} == set(best)


async def test_the_fourth_claim_passes_over_what_another_transaction_holds(
    hosts: list[Ledger], server: PostgresServer, database: str
) -> None:
    await discover(hosts[0], *DAYS[:6])
    worker = await hosts[0].register("worker", LEASE_MS)
    with closing(server.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM polyb2.files WHERE dataset = %s FOR NO KEY UPDATE", (QUOTES,))
        claims = await asyncio.wait_for(hosts[0].claim_up_to(worker, 6), 5)
        assert [claim.key for claim in claims] == [key(day) for day in sorted(DAYS[:6], reverse=True)]
        other.execute("ROLLBACK")


async def test_two_holders_of_an_attempt_number_are_told_apart_by_its_token(hosts: list[Ledger]) -> None:
    """A standby that was promoted without a claim gives its number, and its worker's, a second time."""
    await discover(hosts[0], "2024-01-02")
    worker = await hosts[0].register("worker", LEASE_MS)
    (claim, _) = await hosts[0].claim_up_to(worker, 2)
    with pytest.raises(LeaseLostError):
        await hosts[1].complete(replace(claim, token="0" * 32), SENT)
    assert await hosts[1].complete(claim, SENT)
