"""Several watches on one ledger: one at a time lists, sweeps and sends news, and the next one takes over when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyb2.clock import FAKE_NOW
from polyb2.core.errors import LeaseLostError, LedgerError
from polyb2.core.selection import named_dates
from polyb2.engine import RunResult
from polyb2.flow.discover.consent import Consent
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.watch import Watch
from polyb2.flow.mirror import Mirror
from polyb2.flow.rounds import Rounds, round_name
from polyb2.flow.run.lease import Lease
from polyb2.ledger.rows import DISCOVERED, Load, Round, RoundClaim, Share, Worker
from polyb2.sandbox import Answer, Call, Fault
from tests.conftest import DAY_AGGS, Bench, Gate, key, until
from tests.ledger.places import read_sql
from tests.virtual import play

NOON = "2024-01-10T17:00:00Z"
RECENT = key("2024-01-09")
LISTING = round_name("listing", "7", DAY_AGGS)
INTERVAL_S = 900.0
LEASE_S = 1.0
POLL_S = 0.05


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Wednesday, after the usual hour; the files of all days before are there."""
    monkeypatch.setenv(FAKE_NOW, NOON)


@dataclass
class Host:
    """A watch with its lease, as a process on a host has them."""

    mirror: Mirror
    lease: Lease
    watch: Watch
    cycles: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        await self.lease.take()
        self.keep_lease()
        self.tasks.append(asyncio.create_task(self.watch.run(None)))

    def keep_lease(self) -> None:
        self.tasks.append(asyncio.create_task(self.lease.keep(Load, self._on_lost)))

    async def stop_renewing(self) -> None:
        """Let the lease run out."""
        await _cancelled(self.tasks.pop(0))

    async def die(self) -> None:
        """End at once, giving nothing back."""
        while self.tasks:
            await _cancelled(self.tasks.pop())

    async def _on_lost(self) -> None:
        return

    async def round(self) -> Round:
        return await self.mirror.ledger.round(Worker(0, "onlooker"), LISTING, 10**9)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def hosts(bench: Bench, count: int = 2) -> AsyncIterator[list[Host]]:
    """Hosts on the bench's ledger, not started yet."""
    async with AsyncExitStack() as stack:
        found: list[Host] = []
        for number in range(count):
            mirror = await stack.enter_async_context(bench.open(polyb2_part_tries=1))
            lease = Lease(mirror.ledger, f"host {number}", LEASE_S)
            rounds = Rounds(mirror.ledger, lease, POLL_S)
            watch = Watch(
                mirror, rounds, (DAY_AGGS,), Consent(0, given=True), INTERVAL_S, lambda: None, _counted(found, number)
            )
            found.append(Host(mirror, lease, watch))
            stack.push_async_callback(found[-1].die)
        yield found


def _counted(found: list[Host], number: int) -> Callable[[], None]:
    def count() -> None:
        found[number].cycles += 1

    return count


async def test_a_pair_lists_once_an_interval_and_both_see_what_came_of_it(bench: Bench) -> None:
    bench.box.source.put(RECENT, b"x")
    async with hosts(bench) as (one, two):
        await one.start()
        await until(lambda: one.cycles == 1)
        listed = bench.box.source.count("list")
        await two.start()
        await until(lambda: two.cycles == 1)
        await asyncio.sleep(5 * POLL_S)
        assert bench.box.source.count("list") == listed
        assert ((await one.round()).turn, one.cycles, two.cycles) == (1, 1, 1)


async def test_of_hosts_that_start_together_one_lists(bench: Bench) -> None:
    bench.box.source.put(RECENT, b"x")
    async with hosts(bench, 3) as three:
        for host in three:
            await host.start()
        await until(lambda: all(host.cycles == 1 for host in three))
        assert (await three[0].round()).turn == 1


async def test_another_takes_over_when_the_one_that_lists_dies(bench: Bench) -> None:
    bench.box.source.put(RECENT, b"x")
    gate = Gate()
    bench.box.source.inject(Fault("list", Call(gate.hold)))
    async with hosts(bench) as (one, two):
        await one.start()
        await gate.reached.wait()
        await two.start()
        await one.die()
        await until(lambda: two.cycles == 1)
        found = await two.round()
        assert (found.turn, found.made_ms is None) == (2, False)
        assert len(await bench.rows()) == 1
        gate.open()


async def test_one_that_stood_still_past_its_lease_writes_nothing_and_looks_on(bench: Bench) -> None:
    bench.box.source.put(RECENT, b"x")
    gate = Gate()
    bench.box.source.inject(Fault("list", Call(gate.hold)))
    async with hosts(bench) as (one, two):
        await one.start()
        await gate.reached.wait()
        await two.start()
        await one.stop_renewing()
        await until(lambda: two.cycles == 1)
        made_ms, listed = (await two.round()).made_ms, bench.box.source.count("list")
        gate.open()
        await until(lambda: bench.box.source.count("list") > listed)
        one.keep_lease()
        await until(lambda: one.cycles == 1)
        assert ((await two.round()).turn, (await two.round()).made_ms) == (2, made_ms)
        # The answer that it waited for, and no request after that.
        assert bench.box.source.count("list") == listed + 1


async def test_a_problem_of_the_one_that_lists_is_every_hosts_and_over_for_all(bench: Bench) -> None:
    bench.hurry(discover_again_s=0.3)
    bench.box.source.put(RECENT, b"x")
    failing = bench.box.source.inject(Fault("list", Answer(500, "InternalError"), times=0))
    async with hosts(bench) as (one, two):
        await one.start()
        await two.start()
        await until(lambda: all((host.watch.problem or "").startswith("source: ") for host in (one, two)))
        failing.times = -1
        await until(lambda: one.watch.problem is None and two.watch.problem is None)


async def test_a_trouble_of_the_one_that_looks_on_is_over_with_its_next_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hurry(discover_again_s=0.05)
    bench.box.source.put(RECENT, b"x")

    async def away(*_given: object) -> Round:
        raise LedgerError("the server is away")

    async with hosts(bench) as (one, two):
        await one.start()
        await until(lambda: one.cycles == 1)
        await two.start()
        await until(lambda: two.cycles == 1)
        with monkeypatch.context() as broken:
            broken.setattr(two.mirror.ledger, "round", away)
            await until(lambda: two.watch.problem == "the server is away")
        await until(lambda: two.watch.problem is None)
        assert (await one.round()).turn == 1


async def test_watches_of_other_datasets_each_list_theirs(bench: Bench) -> None:
    assert len({LISTING, round_name("listing", "8", DAY_AGGS), round_name("listing", "7", DAY_AGGS, "a/b")}) == 3
    bench.box.source.put(RECENT, b"x")
    async with hosts(bench) as (one, two):
        two.watch._lookback_days = 8
        await one.start()
        await two.start()
        await until(lambda: (one.cycles, two.cycles) == (1, 1))
        assert (await one.round()).turn == 1
        full = round_name("full listing", DAY_AGGS)
        assert (await one.mirror.ledger.round(Worker(0, "onlooker"), full, 10**9)).turn == 1


async def test_a_discovery_by_hand_is_not_held_up(bench: Bench) -> None:
    bench.box.source.put(RECENT, b"x")
    gate = Gate()
    bench.box.source.inject(Fault("list", Call(gate.hold)))
    async with hosts(bench, 1) as (one,):
        await one.start()
        await gate.reached.wait()
        assert (await bench.discover(named_dates(["2024-01-09"], (DAY_AGGS,)))).total("queued") == 1
        gate.open()


async def test_a_page_that_was_listed_under_a_lost_lease_is_not_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.box.source.put(RECENT, b"x")
    await bench.discover()
    bench.box.source.put(RECENT, b"replaced")
    async with bench.open() as mirror:
        discovered_ms = await mirror.ledger.fact(DISCOVERED)
        lease = Lease(mirror.ledger, "host", LEASE_S)
        await lease.take()
        worker = await lease.held()
        held_of = mirror.ledger.held_of

        async def losing(keys: list[str]) -> dict[str, tuple[str, int]]:
            lease.lose(worker)
            return await held_of(keys)

        monkeypatch.setattr(mirror.ledger, "held_of", losing)
        fenced = mirror.fenced(Rounds(mirror.ledger, lease, POLL_S).fence(RoundClaim(LISTING, 1, worker)))
        with pytest.raises(LeaseLostError):
            await Discovery(fenced, named_dates(["2024-01-09"], (DAY_AGGS,))).queue()
        assert await mirror.ledger.fact(DISCOVERED) == discovered_ms
    assert (await bench.row(RECENT))["revision"] == 1


# -- two whole engines -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def engines(bench: Bench, **settings: Any) -> AsyncIterator[list[asyncio.Task[RunResult]]]:
    """Two runs that stay up, on one ledger."""
    bench.hurry(round_poll_s=POLL_S, poll_s=0.05)
    given: dict[str, Any] = {
        "polyb2_datasets": [DAY_AGGS],
        "polyb2_poll_interval": INTERVAL_S,
        "polyb2_lease_seconds": LEASE_S,
    }
    running = [
        asyncio.create_task(bench.run(None, watch=True, worker_id=f"host-{number}", **given, **settings))
        for number in range(2)
    ]
    try:
        yield running
    finally:
        for task in reversed(running):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_the_other_engine_claims_what_one_queued_and_takes_over_when_it_ends(bench: Bench) -> None:
    names = [key(f"2024-01-0{day}") for day in range(3, 10)]
    for name in names:
        bench.box.source.put(name, b"x" * 1000)
    async with engines(bench) as running:
        await until(lambda: all(bench.box.target.current(name) is not None for name in names))
        (before,) = made(bench)
        running.pop(int(before["worker_id"][-1])).cancel()
        bench.box.source.put(key("2024-01-10"), b"of today")
        await until(lambda: bench.box.target.current(key("2024-01-10")) is not None)
        (after,) = made(bench)
        assert (before["turn"], after["turn"]) == (1, 2)
        assert after["worker_id"] != before["worker_id"]


async def test_the_sweep_of_a_pair_is_one_at_a_time(bench: Bench) -> None:
    bench.hurry(sweep_s=0.05)
    bench.box.source.put(RECENT, b"x")
    await bench.discover()
    async with engines(bench) as running:
        while not (found := made(bench, "sweep")) or found[0]["turn"] < 5:
            await asyncio.sleep(0.02)
        running.pop(int(found[0]["worker_id"][-1])).cancel()
        while made(bench, "sweep")[0]["worker_id"] == found[0]["worker_id"]:
            await asyncio.sleep(0.02)


def made(bench: Bench, name: str = LISTING) -> list[dict[str, Any]]:
    """The round: how often it was taken, and by whom last."""
    statement = "SELECT r.turn, w.worker_id FROM rounds AS r JOIN workers AS w ON w.id = r.worker WHERE r.name = ?"
    return read_sql(bench.folder / "ledger.db", statement, name)


# -- the schedule of looks, in virtual time ----------------------------------------------------------------------------


class Book:
    """The rounds of a ledger as one script has them."""

    def __init__(self, *found: Round) -> None:
        self.found = list(found)

    async def round(self, worker: Worker, name: str, every_ms: int, day: str | None = None) -> Round:
        return self.found.pop(0)

    async def take_round(self, worker: Worker, name: str, every_ms: int, day: str | None = None) -> RoundClaim | None:
        return None

    async def end_round(self, claim: RoundClaim, pause_ms: int, problem: str | None = None) -> None:
        raise AssertionError


class Registry:
    """Leases for whoever asks."""

    losses = 0

    async def register(self, worker_id: str, lease_ms: int, host: str, version: str) -> Worker:
        return Worker(1, worker_id)

    async def renew(self, worker: Worker, load: Load, used: int) -> Share:
        return Share(0, 0)

    async def end_worker(self, worker: Worker, reason: str) -> None:
        return


@pytest.mark.parametrize(
    ("fraction", "is_ours", "wait_ms", "pause_s"),
    [
        (0.5, False, None, 4.0),  # another one makes it
        (0.0, False, None, 2.0),
        (1.0, False, None, 6.0),
        (0.5, False, 900_000, 4.0),
        (0.5, True, 1500, 1.5),  # exactly when it is due, if nobody else is there
        (0.5, False, 1500, 2.0),  # the others come a little later
        (1.0, True, 900_000, 6.0),
        (0.5, False, 0, 4.0),  # another one was quicker
    ],
)
def test_the_next_look(fraction: float, is_ours: bool, wait_ms: int | None, pause_s: float) -> None:
    async def act() -> float:
        loop = asyncio.get_running_loop()
        lease = Lease(Registry(), "host", 60, loop.time)
        await lease.take()
        rounds = Rounds(Book(Round(1, is_ours, None, wait_ms, None)), lease, 4.0, lambda: fraction)
        return (await rounds.look("listing", 900)).pause_s

    assert play(act()) == pytest.approx(pause_s)


def test_without_a_lease_no_look_is_taken() -> None:
    async def act() -> None:
        lease = Lease(Registry(), "host", 60, asyncio.get_running_loop().time)
        rounds = Rounds(Book(Round(1, is_ours=False, made_ms=None, wait_ms=None, problem=None)), lease, 4.0)
        looking = asyncio.create_task(rounds.look("listing", 900))
        await asyncio.sleep(1)
        assert not looking.done()
        await lease.take()
        assert (await looking).claim is None

    play(act())
