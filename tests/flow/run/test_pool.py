"""The pool on protocols, in virtual time: the times and number of its claims, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest

from polyb2.core.errors import Kind, LeaseLostError, RemoteError, Side
from polyb2.core.records import Claim, KnownFile, Revision
from polyb2.core.retry import TIMING
from polyb2.core.status import Event
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.diagnosis import Probed
from polyb2.flow.run.lease import Lease
from polyb2.flow.run.pool import Pool
from polyb2.flow.run.settle import Settlement
from polyb2.flow.run.slots import Slot, Slots
from polyb2.ledger.rows import Load, QueueState, Share, Worker
from polyb2.meters import Meters
from polyb2.remote.limiter import Bandwidth
from tests.virtual import play

LEASE_S = 60.0
AWAY = RemoteError(Side.SOURCE, Kind.UNREACHABLE, "the source cannot be reached")


class Guard:
    meters: object = None
    per_second = None


class Place:
    """A side that receives no request here."""

    def __init__(self) -> None:
        self.guard = Guard()


class Books:
    """A ledger with a number of files to claim."""

    def __init__(self, files: int) -> None:
        self.waiting = [_claim(number) for number in range(files)]
        self.asked: list[int] = []
        self.asked_s: list[float] = []
        self.workers = 0
        self.ended: list[str] = []
        self.refuses_claims = self.refuses_renewal = False
        self.claiming_s = 0.0
        self.losses = 0
        self.held_by_others = 0

    async def register(self, worker_id: str, lease_ms: int, host: str, version: str) -> Worker:
        del lease_ms, host, version
        self.workers += 1
        return Worker(self.workers, worker_id)

    async def renew(self, worker: Worker, load: Load, used: int) -> Share:
        del worker, load
        if self.refuses_renewal:
            self.refuses_renewal = False
            raise LeaseLostError("the lease ran out")
        return Share(used, used)

    async def end_worker(self, worker: Worker, reason: str) -> None:
        del worker
        self.ended.append(reason)

    async def claim_up_to(self, worker: Worker, count: int) -> list[Claim]:
        self.asked_s.append(asyncio.get_running_loop().time())
        seconds, self.claiming_s = self.claiming_s, 0.0
        await asyncio.sleep(seconds)
        if self.refuses_claims:
            self.refuses_claims = False
            raise LeaseLostError("the lease ran out")
        self.asked.append(count)
        claims, self.waiting = self.waiting[:count], self.waiting[count:]
        return [replace(claim, worker=worker.row) for claim in claims]

    async def queue_state(self, worker: Worker) -> QueueState:
        del worker
        return QueueState(bool(self.waiting), None, self.held_by_others)

    async def known_files(self, keys: list[str]) -> dict[str, KnownFile]:
        del keys
        return {}


class Sides:
    """Both sides, which are well."""

    proofs = 0

    def proved(self, key: str) -> None:
        del key

    async def probe(self, side: Side, near: str) -> Probed:
        del side, near
        return Probed(None)


class Work:
    """Settles each claim after a while."""

    def __init__(self, fence: Callable[[int], None]) -> None:
        self.fence = fence
        self.seconds = 1.0
        self.backs_off = False
        self.at_work = 0
        self.most = 0
        self.error: Exception | None = None

    async def work(self, claim: Claim, slot: Slot) -> Event | None:
        try:
            self.fence(claim.worker)
        except LeaseLostError:
            return None
        if self.backs_off:
            slot.release()
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            # Those that back off end one by one, while all slots are free.
            await asyncio.sleep(self.seconds + self.backs_off * claim.file_id / 100)
        finally:
            self.at_work -= 1
        if self.error is not None:
            raise self.error
        return Event.COMPLETE


def _claim(number: int) -> Claim:
    return Claim(number, f"file {number}", "a/b", Revision(1, "etag", 10, 0), 1, 0, 1, f"token {number}")


class Scene:
    """A pool and its collaborators."""

    def __init__(self, files: int, *, slots: int = 4, limit: int | None = None, drain_s: float = 10.0) -> None:
        self.books = Books(files)
        self.more_to_come = False
        place = cast("Any", Place())
        books, etags = cast("Any", self.books), cast("Any", None)
        self.mirror = Mirror(place, cast("Any", Place()), books, etags, Slots(slots), Bandwidth(), Meters())
        self.lease = Lease(self.books, "a worker", LEASE_S, lambda: asyncio.get_running_loop().time())
        self.work = Work(self.lease.check)
        self.breaker = CircuitBreaker(Sides(), give_up_s=60.0, for_ever=False)
        self.pool = Pool(
            self.mirror,
            self.lease,
            self.breaker,
            cast("Settlement", self.work),
            lambda: self.more_to_come,
            drain_s=drain_s,
            limit=limit,
        )

    def play(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        play(act())

    async def run(self) -> float:
        """Run the pool to its end; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self.pool.run()
        assert self.mirror.slots.in_use == 0
        assert self.work.at_work == 0
        return loop.time() - began_s


def test_drains_the_queue_and_gives_the_lease_back() -> None:
    scene = Scene(10)

    async def act() -> None:
        await scene.run()
        assert (scene.pool.outcome.claimed, scene.pool.outcome.completed) == (10, 10)
        assert scene.books.ended == ["interrupted"]
        assert scene.work.most <= 4

    scene.play(act)


def test_claims_never_more_than_it_has_slots_for_nor_than_the_limit() -> None:
    scene = Scene(10, limit=6)

    async def act() -> None:
        await scene.run()
        assert scene.pool.outcome.claimed == 6
        assert max(scene.books.asked) <= 4
        assert len(scene.books.waiting) == 4

    scene.play(act)


def test_of_files_that_back_off_no_more_are_in_flight_than_twice_the_slots() -> None:
    scene = Scene(50)

    async def act() -> None:
        scene.work.backs_off = True
        await scene.run()
        assert scene.work.most == 8
        assert scene.pool.outcome.completed == 50

    scene.play(act)


@pytest.mark.parametrize("are_refused", [False, True])
def test_claims_that_come_in_after_their_lease_was_lost_are_dropped_and_the_new_lease_stays(are_refused: bool) -> None:
    scene = Scene(1)

    async def act() -> None:
        scene.books.claiming_s, scene.books.refuses_claims, scene.books.refuses_renewal = LEASE_S, are_refused, True
        await scene.run()
        assert (scene.books.workers, scene.mirror.meters.leases_lost) == (2, 1)
        assert scene.pool.outcome.completed == int(are_refused)

    scene.play(act)


@pytest.mark.parametrize("why", ["discovery", "another runner"])
def test_waits_for_what_may_still_come(why: str) -> None:
    scene = Scene(0)

    async def act() -> None:
        scene.more_to_come = why == "discovery"
        scene.books.held_by_others = int(why == "another runner")

        def come() -> None:
            scene.more_to_come, scene.books.held_by_others = False, 0
            scene.books.waiting = [_claim(1)]

        asyncio.get_running_loop().call_later(100, come)
        assert await scene.run() >= 100
        assert scene.pool.outcome.completed == 1

    scene.play(act)


def test_an_empty_queue_without_the_lease_is_not_the_end() -> None:
    """The claims of a lost lease were dropped unsettled: their rows are free once a new one is taken."""
    scene = Scene(1)

    async def act() -> None:
        scene.books.refuses_claims = True
        left, scene.books.waiting = scene.books.waiting, []
        asyncio.get_running_loop().call_later(LEASE_S / 8, scene.books.waiting.extend, left)
        await scene.run()
        assert (scene.books.workers, scene.pool.outcome.completed) == (2, 1)
        assert scene.mirror.meters.leases_lost == 1

    scene.play(act)


def test_while_the_breaker_is_open_nothing_is_claimed_and_then_one_file() -> None:
    scene = Scene(5)

    async def act() -> None:
        scene.breaker.report(AWAY, "a file", 0)
        asyncio.get_running_loop().call_later(1.5, lambda: scene.breaker.proved("a file", 1.5))
        await scene.run()
        assert (scene.books.asked_s[0], scene.books.asked[0]) == (TIMING.probe_first_s, 1)
        assert scene.pool.outcome.completed == 5

    scene.play(act)


def test_the_first_task_that_dies_ends_the_pool_and_says_why() -> None:
    scene = Scene(8)

    async def act() -> None:
        scene.work.error = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await scene.pool.run()
        assert scene.work.at_work == 0
        assert scene.mirror.slots.in_use == 0
        assert scene.books.ended == ["interrupted"]

    scene.play(act)


@pytest.mark.parametrize(("work_s", "took_s", "completed"), [(5.0, 5.0, 4), (100.0, 12.0, 0)])
def test_a_drain_lets_files_end_for_a_while(work_s: float, took_s: float, completed: int) -> None:
    scene = Scene(50, drain_s=10.0)

    async def act() -> None:
        scene.work.seconds = work_s
        asyncio.get_running_loop().call_later(2, scene.mirror.draining.set)
        assert await scene.run() == pytest.approx(took_s, abs=1.0)
        assert (scene.pool.outcome.claimed, scene.pool.outcome.completed) == (4, completed)

    scene.play(act)
