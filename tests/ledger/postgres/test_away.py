"""A server that is there and cannot be used: it takes no writes, has no connections left, is locked, stands still."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from polyb2.core.errors import LedgerError
from polyb2.core.status import Status
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.postgres import lane, transaction
from polyb2.ledger.postgres.store import PostgresStore
from tests.ledger.conftest import LEASE_MS, SENT
from tests.ledger.postgres.test_trouble import DAYS, discover
from tests.postgres import PostgresServer, postgres_missing

CONNECTIONS = 6
Trouble = Callable[[PostgresServer, str], "Iterator[None]"]


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A server that hardly has connections, and survives a crash."""
    if reason := postgres_missing():
        pytest.skip(reason)
    settings = (f"max_connections={CONNECTIONS}", "superuser_reserved_connections=0", "synchronous_commit=on")
    with PostgresServer(*settings) as server:
        yield server


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        transaction, "_SET", transaction._SET.replace("'lock_timeout', '10s'", "'lock_timeout', '100ms'")
    )
    monkeypatch.setattr(lane, "SILENT_S", 0.2)
    monkeypatch.setattr(lane, "HURRIED_S", 0.1)
    monkeypatch.setattr(lane, "LOOK_S", 0.05)
    monkeypatch.setattr("polyb2.ledger.busy_retry._PAUSE_S", 0.05)


class Rule:
    """Waits until it is told not to."""

    goes_on = True

    def __call__(self, _error: LedgerError, _waited_s: float) -> bool:
        return self.goes_on


@pytest.fixture
def rule() -> Rule:
    return Rule()


@pytest.fixture
async def ledger(own: PostgresServer, rule: Rule) -> AsyncIterator[Ledger]:
    ledger = await open_ledger(own.url(own.new_database()), retry=rule)
    yield ledger
    await ledger.close()


def _database(ledger: Ledger) -> str:
    return ledger.place.rpartition("/")[2]


@contextmanager
def killed(server: PostgresServer, _database: str) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def stopped(server: PostgresServer, _database: str) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def read_only(server: PostgresServer, _database: str) -> Iterator[None]:
    with server.read_only():
        yield


@contextmanager
def crowded(server: PostgresServer, database: str) -> Iterator[None]:
    """Somebody else has all connections; those of the ledger were ended."""
    with ExitStack() as stack:
        others = [stack.enter_context(closing(server.connect())) for _ in range(CONNECTIONS - 3)]
        while len(others) < CONNECTIONS:
            others[0].execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
            with ExitStack() as one:
                others.append(one.enter_context(closing(server.connect())))
                stack.push(one.pop_all())
        yield


@contextmanager
def locked(server: PostgresServer, database: str) -> Iterator[None]:
    """A long transaction of somebody else."""
    with closing(server.connect(database)) as other, other.transaction():
        other.execute("LOCK TABLE polyb2.files")
        yield


@contextmanager
def frozen(server: PostgresServer, _database: str) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


TROUBLES = {
    "killed": (killed, "cannot be used: "),
    "stopped": (stopped, "cannot be used: "),
    "read-only": (read_only, "cannot be used: .*read-only"),
    "crowded": (crowded, "cannot be used: .*too many clients"),
    "locked": (locked, "is busy: canceling statement due to lock timeout"),
    "frozen": (frozen, "has not answered for"),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_trouble_of_the_server_is_told_and_waited_for(ledger: Ledger, own: PostgresServer, name: str) -> None:
    begin, words = TROUBLES[name]
    await discover(ledger, *DAYS)
    worker = await ledger.register("worker", LEASE_MS)
    (claim,) = await ledger.claim_up_to(worker, 1)
    with begin(own, _database(ledger)):
        settling = asyncio.create_task(ledger.complete(claim, SENT))
        claiming = asyncio.create_task(ledger.claim_up_to(worker, 1))
        async with asyncio.timeout(40):
            while not re.search(words, str(ledger.trouble)):
                await asyncio.sleep(0.01)
        assert "\n" not in str(ledger.trouble)
    async with asyncio.timeout(40):
        assert await settling
        (other,) = await claiming
        assert other.key != claim.key
        assert await ledger.complete(other, SENT)
    status = await ledger.status()
    assert (status.totals.by_status[Status.COMPLETED]["files"], len(status.in_flight)) == (2, 0)
    assert ledger.trouble is None


@pytest.mark.parametrize("name", ["read-only", "crowded", "locked", "frozen"])
async def test_a_rule_that_waits_no_longer_ends_every_wait(
    ledger: Ledger, own: PostgresServer, rule: Rule, name: str
) -> None:
    begin, _ = TROUBLES[name]
    await discover(ledger, *DAYS)
    worker = await ledger.register("worker", LEASE_MS)
    (claim,) = await ledger.claim_up_to(worker, 1)
    with begin(own, _database(ledger)):
        write = asyncio.create_task(ledger.complete(claim, SENT))
        while ledger.trouble is None:
            await asyncio.sleep(0.01)
        rule.goes_on, began_s = False, time.monotonic()
        with pytest.raises(LedgerError) as raised:
            await write
        with pytest.raises(LedgerError):
            await ledger.register("another", LEASE_MS)
        assert raised.value.may_pass
        assert time.monotonic() - began_s < 3
    rule.goes_on = True
    assert await ledger.complete(claim, SENT)


async def test_a_server_that_stands_still_is_given_up_after_any_statement_must_have_ended(
    ledger: Ledger, own: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another one by now, and the one that stands still never comes back."""
    monkeypatch.setattr(lane, "ANSWER_S", 0.4)
    await discover(ledger, *DAYS)
    with frozen(own, ""):
        write = asyncio.create_task(ledger.register("worker", LEASE_MS))
        async with asyncio.timeout(3):
            while not is_connecting(ledger):
                await asyncio.sleep(0.01)
    worker = await write
    assert len(await ledger.claim_up_to(worker, 1)) == 1


def is_connecting(ledger: Ledger) -> bool:
    store = ledger._store
    assert isinstance(store, PostgresStore)
    hand = store._writings[""]._lane._hand
    return hand is not None and hand.is_connecting


async def test_a_caller_that_is_cancelled_does_not_wait_for_a_server_that_stands_still(
    ledger: Ledger, own: PostgresServer
) -> None:
    await discover(ledger, *DAYS)
    await ledger.status()
    with frozen(own, ""):
        asked = [asyncio.create_task(ledger.register("worker", LEASE_MS)), asyncio.create_task(ledger.status())]
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
        assert time.monotonic() - began_s < 3
    assert all(one.cancelled() for one in asked)
    assert not (await ledger.status()).runners
