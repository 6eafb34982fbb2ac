"""A fleet of workers that share the account's limits, in virtual time: the real lease, verbs and limiters on a real database.

Workers that always have more to send than they may come, go and die. However they do, what all send within any ten seconds is
at most a twentieth more than the setting; and what they may send is used.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from itertools import accumulate
from typing import Any

import pytest

from polyb2.clock import Clock, Moment
from polyb2.core.schedule import Schedule, parse_schedule
from polyb2.flow.run.lease import Lease
from polyb2.ledger.rows import Load, Share, Worker
from polyb2.ledger.sqlite.open import load_migrations
from polyb2.ledger.sqlite.transaction import SqliteTransaction, begun
from polyb2.ledger.verbs import leases
from polyb2.remote.limiter import Bandwidth, Limiter
from polyb2.remote.pump import BUFFER_BYTES
from polyb2.remote.relay import Relay
from tests.virtual import play

LEASE_S = 20.0
WINDOW_S = 10
RPS = 100.0
BYTES_PER_S = 10_000_000
STREAMS = 32
TOLERATED = 1.05


class LoopClock(Clock):
    """The clock of this loop."""

    def now(self) -> Moment:
        now_ms = int(asyncio.get_running_loop().time() * 1000) + 1_000_000
        return Moment(now_ms, now_ms, "this boot")


class Books:
    """A ledger without threads, whose answers take a while; some workers cannot reach it now and then."""

    losses = 0

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        self.answer_s = 0.2
        self.cut_off_until_s: dict[str, float] = {}
        for script in load_migrations():
            self.connection.executescript(script)

    async def _write(self, name: str, work: Callable[[SqliteTransaction], Any]) -> Any:
        await asyncio.sleep(self.cut_off_until_s.get(name, 0.0) - asyncio.get_running_loop().time())
        with begun(self.connection, LoopClock(), to_write=True) as tx:
            found = work(tx)
        await asyncio.sleep(self.answer_s)
        return found

    async def register(self, worker_id: str, lease_ms: int, host: str, version: str) -> Worker:
        found: Worker = await self._write(worker_id, lambda tx: leases.register(tx, worker_id, lease_ms, host, version))
        return found

    async def renew(self, worker: Worker, load: Load, used: int) -> Share:
        found: Share = await self._write(worker.worker_id, lambda tx: leases.renew(tx, worker, load, used))
        return found

    async def end_worker(self, worker: Worker, reason: str) -> None:
        await self._write(worker.worker_id, lambda tx: leases.end(tx, worker, reason))


class Fleet:
    """Workers on one ledger, and what they sent in each second."""

    def __init__(self, schedule: Schedule) -> None:
        self.books = Books()
        self.schedule = schedule
        self.requests: list[float] = []
        self.bytes: list[tuple[float, int]] = []
        self.members: dict[str, Member] = {}
        self.joined = 0

    def join(self) -> Member:
        self.joined += 1
        member = Member(self, f"worker {self.joined}")
        self.members[member.name] = member
        return member

    def most(self, sent: list[tuple[float, float]]) -> float:
        """The most that was sent within ten seconds, by the second."""
        return max(self.windows(sent))

    @staticmethod
    def windows(sent: list[tuple[float, float]]) -> list[float]:
        """What was sent within each ten seconds, a window every tenth of a second."""
        slots = [0.0] * (int(sent[-1][0] * 10) + 1)
        for at_s, count in sent:
            slots[int(at_s * 10)] += count
        sums = [0.0, *accumulate(slots)]
        return [end - start for start, end in zip(sums, sums[10 * WINDOW_S :], strict=False)]

    async def end(self) -> None:
        for member in list(self.members.values()):
            await member.leave()
        self.books.connection.close()


class Member:
    """A worker that always has something to send."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.limiter = Limiter(RPS)
        self.bandwidth = Bandwidth(fleet.schedule)
        self.began_s: float | None = None
        now_s = asyncio.get_running_loop().time
        self.lease = Lease(fleet.books, name, LEASE_S, now_s, host="a host", use_share=self.use_share)
        self.tasks = [asyncio.create_task(self._work())]
        self.tasks += [asyncio.create_task(self._ask()) for _ in range(4)]
        self.tasks += [asyncio.create_task(self._send()) for _ in range(STREAMS)]

    def use_share(self, share: float) -> None:
        self.limiter.use_share(share)
        self.bandwidth.use_share(share)

    async def _work(self) -> None:
        await self.lease.take()
        await self.lease.keep(Load, self._on_lost)

    async def _on_lost(self) -> None:
        """It would stop its transfers."""

    async def _ask(self) -> None:
        while True:
            turn = await self.limiter.wait()
            turn.accepted()
            self._began()
            self.fleet.requests.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0)

    async def _send(self) -> None:
        """Bodies, as fast as the bandwidth lets them through."""
        while True:
            relay = Relay(self._body(), 8 * BUFFER_BYTES, self.bandwidth)
            await relay.drain()

    async def _body(self) -> Any:
        for _ in range(8):
            await asyncio.sleep(0.001)
            self._began()
            self.fleet.bytes.append((asyncio.get_running_loop().time(), BUFFER_BYTES))
            yield bytes(BUFFER_BYTES)

    def _began(self) -> None:
        if self.began_s is None:
            self.began_s = asyncio.get_running_loop().time()

    async def die(self) -> None:
        """As by ``kill -9``: the ledger learns nothing."""
        del self.fleet.members[self.name]
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def leave(self) -> None:
        await self.die()
        await self.lease.give_back()


def scene(act: Callable[[Fleet], Coroutine[Any, Any, None]], limit: str = "10M") -> Fleet:
    async def played() -> Fleet:
        fleet = Fleet(parse_schedule(limit))
        with closing(fleet.books.connection):
            await act(fleet)
            for member in list(fleet.members.values()):
                await member.die()
        return fleet

    return play(played())


async def everything(fleet: Fleet) -> None:
    """Workers that join, leave, die, lose their lease, and are cut off from the ledger, at any moment."""
    dice = random.Random(7)
    fleet.join()
    for _ in range(40):
        await asyncio.sleep(dice.uniform(0.1, 1.5 * LEASE_S / 4))
        fleet.books.answer_s = dice.choice([0.001, 0.2, 4.0])
        what, member = dice.random(), dice.choice([*fleet.members.values(), None])
        if member is None or (what < 0.4 and len(fleet.members) < 6):
            fleet.join()
        elif what < 0.6:
            await member.leave()
        elif what < 0.8:
            await member.die()
        elif what < 0.9 and member.lease.worker is not None:
            member.lease.lose(member.lease.worker)
        else:
            fleet.books.cut_off_until_s[member.name] = asyncio.get_running_loop().time() + dice.uniform(0, 2 * LEASE_S)


def test_alone_it_has_everything_from_the_first_moment() -> None:
    async def act(fleet: Fleet) -> None:
        await asyncio.sleep(100)
        fleet.join()
        await asyncio.sleep(10.5)

    fleet = scene(act)
    assert len(fleet.requests) >= 0.99 * 10 * RPS
    assert sum(count for _, count in fleet.bytes) >= 0.97 * 10 * BYTES_PER_S
    assert fleet.requests[0] - 100 < 0.3, "as long as the ledger takes to answer"


def test_whoever_joins_leaves_or_dies_the_sum_stays_within_the_setting() -> None:
    fleet = scene(everything)
    requests = Fleet.windows([(at_s, 1) for at_s in fleet.requests])
    sent = Fleet.windows([(at_s, count) for at_s, count in fleet.bytes])
    assert max(requests) <= TOLERATED * WINDOW_S * RPS
    assert max(sent) <= TOLERATED * WINDOW_S * BYTES_PER_S
    # It is used as well, but for what dead ones held until their lease ended and the ledger that is away.
    assert sum(requests) / len(requests) > 0.4 * WINDOW_S * RPS


def test_each_has_its_part_after_one_renewal_of_the_others() -> None:
    counts: list[int] = []

    async def act(fleet: Fleet) -> None:
        for number in range(1, 5):
            member = fleet.join()
            began_s = asyncio.get_running_loop().time()
            await asyncio.sleep(LEASE_S / 4 + LEASE_S / 20 + 1)
            assert member.began_s is not None
            assert member.began_s - began_s < (LEASE_S / 4 + LEASE_S / 20 + 1 if number > 1 else 0.3)
        fleet.requests.clear()
        await asyncio.sleep(WINDOW_S)
        counts.append(len(fleet.requests))
        for member in list(fleet.members.values())[1:]:
            await member.leave()
        await asyncio.sleep(LEASE_S / 4 + 1)
        fleet.requests.clear()
        await asyncio.sleep(WINDOW_S)
        counts.append(len(fleet.requests))

    scene(act)
    assert counts == pytest.approx([WINDOW_S * RPS] * 2, rel=0.03)


def test_what_a_dead_one_held_is_free_after_its_lease() -> None:
    async def act(fleet: Fleet) -> None:
        dead, heir = fleet.join(), None
        await asyncio.sleep(LEASE_S)
        await dead.die()
        died_s = asyncio.get_running_loop().time()
        heir = fleet.join()
        await asyncio.sleep(1.2 * LEASE_S)
        assert heir.began_s is not None
        assert LEASE_S / 2 < heir.began_s - died_s < LEASE_S + LEASE_S / 20 + 0.5

    scene(act)


def test_the_timetable_is_shared_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bandwidth, "LOOK_EVERY_S", 0.1)
    minute = 0

    async def act(fleet: Fleet) -> None:
        nonlocal minute
        for _ in range(2):
            member = fleet.join()
            member.bandwidth._minute = lambda: minute
            await asyncio.sleep(LEASE_S / 2)
        minute = 600
        await asyncio.sleep(1)
        assert [member.bandwidth.per_second for member in fleet.members.values()] == [5_000_000] * 2
        assert {member.bandwidth.words for member in fleet.members.values()} == {
            "limit 10.0 MB/s until 11:00, of it 50% here"
        }
        minute = 700
        await asyncio.sleep(1)
        assert [member.bandwidth.per_second for member in fleet.members.values()] == [10_000_000] * 2

    scene(act, "10:00-11:00=10M,*=20M")


def test_without_a_setting_nobody_waits_for_anybody() -> None:
    async def act(_fleet: Fleet) -> None:
        bandwidth, limiter = Bandwidth(), Limiter(0)
        bandwidth.use_share(0)
        limiter.use_share(0)
        assert bandwidth.book(10**9) == 0
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await limiter.wait()
                return
        pytest.fail("it waits")

    scene(act)
