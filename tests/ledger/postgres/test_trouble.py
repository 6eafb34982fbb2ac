"""A server that is lost: in the midst of a write, before and after its COMMIT, while it is away, and for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from polyb2.core.errors import LedgerGoneError
from polyb2.core.keys import parse_key
from polyb2.core.status import Status
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from tests.ledger.conftest import LEASE_MS, SENT, listed
from tests.ledger.postgres.cutter import Cutter
from tests.postgres import PostgresServer

COMMIT = b"COMMIT\0"
"""As the protocol has it: READ COMMITTED is another word."""
DAYS = [f"2024-01-{day:02}" for day in range(2, 12)]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.ledger.busy_retry._PAUSE_S", 0.02)


@pytest.fixture
def wire(server: PostgresServer) -> Iterator[Cutter]:
    with Cutter(server) as cutter:
        yield cutter


@pytest.fixture
async def ledger(wire: Cutter, database: str) -> AsyncIterator[Ledger]:
    ledger = await open_ledger(wire.url(database), retry=lambda _error, waited_s: waited_s < 30)
    yield ledger
    await ledger.close()


async def discover(ledger: Ledger, *days: str) -> None:
    found = [(parse_key(item.key), item) for item in map(listed, days)]
    await ledger.record([Discovered(name, item) for name, item in found if name], "")


@pytest.mark.parametrize("heard", [True, False], ids=["answer lost", "never heard"])
async def test_an_answer_to_commit_that_is_lost_is_looked_up(ledger: Ledger, wire: Cutter, heard: bool) -> None:
    await discover(ledger, *DAYS)
    worker = await ledger.register("worker", LEASE_MS)
    wire.word, wire.heard = COMMIT, heard
    claims = await ledger.claim_up_to(worker, 3)
    assert wire.cuts == 1
    held = (await ledger.status()).in_flight
    assert {claim.key for claim in claims} == {file.key for file in held}, "claimed twice, or not at all"
    assert [claim.attempt for claim in claims] == [1, 1, 1]
    for claim in claims:
        assert await ledger.complete(claim, SENT)


@pytest.mark.parametrize("word", [b"attempts", b"BEGIN", b"throughput"], ids=["claiming", "begin", "settling"])
async def test_a_write_that_was_cut_off_is_done_once(ledger: Ledger, wire: Cutter, word: bytes) -> None:
    await discover(ledger, *DAYS)
    worker = await ledger.register("worker", LEASE_MS)
    wire.word = word
    claims = await ledger.claim_up_to(worker, 2)
    assert all([await ledger.complete(claim, SENT, 10) for claim in claims])
    assert wire.cuts == 1
    status = await ledger.status()
    assert (status.totals.by_status[Status.COMPLETED]["files"], len(status.in_flight)) == (2, 0)
    assert sum(size for _, size in await ledger.throughput()) == 20


async def test_writes_of_many_tasks_survive_many_cuts(ledger: Ledger, wire: Cutter) -> None:
    days = [f"2023-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 11)]
    await discover(ledger, *days)
    worker = await ledger.register("worker", LEASE_MS)
    done: list[str] = []

    async def work() -> None:
        while claims := await ledger.claim_up_to(worker, 2):
            for claim in claims:
                assert await ledger.complete(claim, SENT)
                done.append(claim.key)
                if len(done) % 10 == 0:
                    wire.heard, wire.word = not wire.heard, COMMIT

    await asyncio.gather(*(work() for _ in range(8)))
    assert wire.cuts > 3
    assert sorted(done) == sorted(listed(day).key for day in days), "a file was settled twice, or not at all"


async def test_a_ledger_that_was_removed_is_gone(ledger: Ledger, server: PostgresServer, database: str) -> None:
    await discover(ledger, *DAYS)
    with closing(server.connect(database)) as connection:
        connection.execute("DROP SCHEMA polyb2 CASCADE")
    with pytest.raises(LedgerGoneError, match="schema polyb2 was removed"):
        await ledger.register("worker", LEASE_MS)
    assert ledger.gone is not None


async def test_where_there_is_no_ledger_none_is_made_and_its_place_is_said(
    server: PostgresServer, database: str
) -> None:
    ledger = await open_ledger(server.url(database), read_only=True)
    assert (ledger.exists, ledger.place) == (False, f"postgresql://{server.folder}/{database}")
    assert (await ledger.status()).totals.files == 0
    await ledger.close()
    with closing(server.connect(database)) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'polyb2'").fetchone() is None


async def test_a_server_that_lost_what_it_had_confirmed_is_found_out(
    ledger: Ledger, wire: Cutter, server: PostgresServer, database: str
) -> None:
    """As a standby that was promoted without the last commits; a connection that was merely lost is no such thing."""
    await discover(ledger, *DAYS)
    worker = await ledger.register("worker", LEASE_MS)
    wire.word = b"BEGIN"
    (claim,) = await ledger.claim_up_to(worker, 1)
    assert (wire.cuts, ledger.losses) == (1, 0)
    with closing(server.connect(database)) as connection:
        connection.execute("UPDATE polyb2.writers SET number = number - 1")
    wire.word = b"BEGIN"
    assert await ledger.complete(claim, SENT)
    assert (wire.cuts, ledger.losses) == (2, 1)
    wire.word = b"BEGIN"
    await ledger.claim_up_to(worker, 1)
    assert (wire.cuts, ledger.losses) == (3, 1), "told once"


async def test_after_a_loss_every_connection_is_made_again(
    ledger: Ledger, wire: Cutter, server: PostgresServer, database: str
) -> None:
    """The address may lead to another server, and the former one may still answer those that read."""
    await ledger.status()
    wire.word = b"BEGIN"
    await discover(ledger, *DAYS)
    with closing(server.connect(database)) as connection:
        sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = %s AND backend_start < %s"
        now = connection.execute("SELECT now() AS now").fetchone()
        assert now is not None
        await ledger.status()
        found = connection.execute(sql, (database, now["now"])).fetchone()
    assert found == {"n": 2}, "the test's own, and the one that writes"
