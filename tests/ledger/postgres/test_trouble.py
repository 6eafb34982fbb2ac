"""A server that is lost: in the midst of a write, before and after its COMMIT, while it is away, and for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.core.keys import parse_key
from polyb2.core.status import Status
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from tests.ledger.conftest import LEASE_MS, SENT, listed
from tests.ledger.postgres.cutter import Cutter
from tests.postgres import PostgresServer, postgres_missing

DAYS = [f"2024-01-{day:02}" for day in range(2, 12)]


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    name = server.new_database()
    yield name
    server.drop_database(name)


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
    wire.word, wire.heard = b"COMMIT", heard
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
                    wire.heard, wire.word = not wire.heard, b"COMMIT"

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


async def test_a_server_that_dies_and_comes_back_is_waited_for() -> None:
    if reason := postgres_missing():
        pytest.skip(reason)
    with PostgresServer(durable=True) as server:
        patient = False
        ledger = await open_ledger(server.url(server.new_database()), retry=lambda _error, _waited_s: patient)
        await discover(ledger, *DAYS)
        worker = await ledger.register("worker", LEASE_MS)
        (claim,) = await ledger.claim_up_to(worker, 1)
        server.kill()
        with pytest.raises(LedgerError, match="cannot be used") as raised:
            await ledger.complete(claim, SENT)
        assert raised.value.may_pass
        patient = True
        waiting = asyncio.create_task(ledger.complete(claim, SENT))
        while ledger.trouble is None:
            await asyncio.sleep(0.01)
        server.start()
        assert await waiting
        await ledger.close()


async def test_where_there_is_no_ledger_none_is_made_and_its_place_is_said(
    server: PostgresServer, database: str
) -> None:
    ledger = await open_ledger(server.url(database), read_only=True)
    assert (ledger.exists, ledger.place) == (False, f"postgresql://{server.folder}/{database}")
    assert (await ledger.status()).totals.files == 0
    await ledger.close()
    with closing(server.connect(database)) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'polyb2'").fetchone() is None
