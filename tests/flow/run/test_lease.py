"""The lease, state by state, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from polyb2 import __version__
from polyb2.core.errors import LeaseLostError, LedgerError
from polyb2.flow.run.lease import MARGIN_S, RENEWALS_A_LEASE, RENEWALS_SHORT, Lease, LeaseState
from polyb2.ledger.rows import WHOLE, Load, Share, Worker
from tests.virtual import VirtualLoop, play

LEASE_S = 60.0


class Books:
    """The lease operations of a ledger."""

    def __init__(self) -> None:
        self.workers: list[str] = []
        self.renewals = 0
        self.ended: list[int] = []
        self.refuses_renewal = False
        self.renewing_s = 0.0
        self.is_broken = False
        self.losses = 0
        self.share = Share(WHOLE, WHOLE)
        self.used: list[tuple[float, int]] = []

    async def register(self, worker_id: str, lease_ms: int, host: str, version: str) -> Worker:
        assert (host, version) == ("a host", __version__)
        self.workers.append(worker_id)
        return Worker(len(self.workers), worker_id, self.share)

    async def renew(self, worker: Worker, load: Load, used: int) -> Share:
        assert load == Load()
        self.used.append((asyncio.get_running_loop().time(), used))
        await asyncio.sleep(self.renewing_s)
        if self.refuses_renewal:
            self.refuses_renewal = False
            raise LeaseLostError(f"the lease of worker {worker.worker_id} ran out")
        self.renewals += 1
        return self.share

    async def end_worker(self, worker: Worker, reason: str) -> None:
        if self.is_broken:
            raise LedgerError("the disk is full")
        assert reason == "interrupted"
        self.ended.append(worker.row)


class Scene:
    """A lease that is kept, and its events."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.books = Books()
        self.lost = 0
        self.shares: list[float] = []
        now_s = lambda: asyncio.get_running_loop().time()  # noqa: E731 - the clock
        self.lease = Lease(self.books, "a worker", lease_s, now_s, host="a host", use_share=self.shares.append)

    async def begin(self) -> asyncio.Task[None]:
        await self.lease.take()
        return asyncio.create_task(self.lease.keep(Load, self._on_lost))

    async def _on_lost(self) -> None:
        self.lost += 1
        assert self.lease.worker is None


def scene(act: Any) -> None:
    """Play ``act(scene)`` in virtual time."""
    played = Scene()
    coroutine: Coroutine[Any, Any, None] = act(played)
    play(coroutine)


def test_without_a_lease_nothing_may_begin() -> None:
    async def act(scene: Scene) -> None:
        assert scene.lease.state is LeaseState.NONE
        assert scene.lease.worker is None
        with pytest.raises(LeaseLostError):
            scene.lease.check(1)

    scene(act)


def test_a_lease_that_is_renewed_is_held_for_ever() -> None:
    async def act(scene: Scene) -> None:
        keeping = await scene.begin()
        await asyncio.sleep(100 * LEASE_S + 1)
        scene.lease.check(1)
        assert scene.lease.worker == Worker(1, "a worker")
        assert (scene.lost, scene.books.renewals) == (0, 100 * RENEWALS_A_LEASE)
        keeping.cancel()

    play(act(Scene()), 200 * LEASE_S)


@pytest.mark.parametrize(
    "loss", ["refused by the ledger", "refused to a claim", "the loop was blocked", "lost by the ledger"]
)
def test_after_a_loss_a_new_worker_begins(loss: str) -> None:
    async def act(scene: Scene) -> None:
        keeping = await scene.begin()
        await asyncio.sleep(1)
        if loss == "refused by the ledger":
            scene.books.refuses_renewal = True
        elif loss == "refused to a claim":
            scene.lease.lose(Worker(1, "a worker"))
        elif loss == "lost by the ledger":
            scene.books.losses += 1
        else:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.advance(LEASE_S)
        if loss != "refused by the ledger":
            assert scene.lease.state is LeaseState.LOST
            with pytest.raises(LeaseLostError):
                scene.lease.check(1)
        await asyncio.sleep(LEASE_S / RENEWALS_A_LEASE)
        assert (scene.lost, len(scene.books.workers)) == (1, 2)
        # What was claimed under the lost lease may still come in: it neither begins nor costs the new lease.
        scene.lease.lose(Worker(1, "a worker"))
        assert scene.lease.worker == Worker(2, "a worker")
        scene.lease.check(2)
        with pytest.raises(LeaseLostError):
            scene.lease.check(1)
        keeping.cancel()

    scene(act)


def test_a_lease_that_was_lost_while_it_was_renewed_stays_lost() -> None:
    """A claim met the loss and was dropped unsettled: a renewed lease would keep its row from every other worker."""

    async def act(scene: Scene) -> None:
        scene.books.renewing_s = 1.0
        keeping = await scene.begin()
        await asyncio.sleep(LEASE_S / RENEWALS_A_LEASE + 0.5)
        scene.lease.lose(Worker(1, "a worker"))
        await asyncio.sleep(1)
        assert (scene.lost, len(scene.books.workers)) == (1, 2)
        keeping.cancel()

    scene(act)


def test_a_renewal_counts_from_before_the_ledger_was_asked() -> None:
    async def act(scene: Scene) -> None:
        keeping = await scene.begin()
        scene.books.renewing_s = 20.0
        asked_s = LEASE_S / RENEWALS_A_LEASE
        await asyncio.sleep(asked_s + 21)
        assert scene.books.renewals == 1
        keeping.cancel()
        await asyncio.sleep(LEASE_S - MARGIN_S - 21 - 0.1)
        scene.lease.check(1)
        await asyncio.sleep(0.2)
        with pytest.raises(LeaseLostError):
            scene.lease.check(1)

    scene(act)


@pytest.mark.parametrize(("lease_s", "trusted_s"), [(60, 59), (10, 9), (2, 1.8), (1, 0.9)])
def test_the_holder_stops_before_the_ledger_does(lease_s: float, trusted_s: float) -> None:
    """By a second, or by a tenth of a short lease."""

    async def act(scene: Scene) -> None:
        await scene.lease.take()
        await asyncio.sleep(trusted_s - 0.001)
        scene.lease.check(1)
        assert scene.shares == [0, 1]
        await asyncio.sleep(0.002)
        with pytest.raises(LeaseLostError):
            scene.lease.check(1)
        assert scene.shares == [0, 1, 0]

    play(act(Scene(lease_s)))


def test_a_share_is_used_as_told_and_what_is_given_up_is_reported_at_once() -> None:
    async def act(scene: Scene) -> None:
        renewed_s, short_s = LEASE_S / RENEWALS_A_LEASE, LEASE_S / RENEWALS_SHORT
        keeping = await scene.begin()
        scene.books.share = Share(WHOLE // 2, WHOLE // 2)
        await asyncio.sleep(2 * renewed_s + 1)
        assert scene.books.used == [(renewed_s, WHOLE), (renewed_s, WHOLE // 2), (2 * renewed_s, WHOLE // 2)]
        assert scene.shares == [0, 1, 0.5, 0.5, 0.5]
        # Another one still uses what is to be this one's: that is asked for more often.
        scene.books.share = Share(WHOLE // 2, WHOLE)
        await asyncio.sleep(renewed_s)
        scene.books.used.clear()
        await asyncio.sleep(2 * short_s)
        assert [used for _, used in scene.books.used] == [WHOLE // 2] * 2
        keeping.cancel()

    scene(act)


@pytest.mark.parametrize("how", ["refused by the ledger", "refused to a claim", "the ledger does not answer"])
def test_the_share_ends_with_the_lease(how: str) -> None:
    async def act(scene: Scene) -> None:
        keeping = await scene.begin()
        scene.books.share = Share(WHOLE // 4, WHOLE // 2)
        if how == "refused to a claim":
            scene.lease.lose(Worker(1, "a worker"))
            assert scene.shares == [0, 1, 0]
            await asyncio.sleep(LEASE_S / RENEWALS_A_LEASE + 1)
            assert scene.shares[-1] == 0.25
        elif how == "refused by the ledger":
            scene.books.refuses_renewal = True
            await asyncio.sleep(LEASE_S / RENEWALS_A_LEASE + 1)
            assert scene.shares == [0, 1, 0, 0.25]
        else:
            scene.books.renewing_s = 2 * LEASE_S
            await asyncio.sleep(LEASE_S - MARGIN_S + 1)
            assert scene.shares == [0, 1, 0]
        keeping.cancel()
        # What the process does without a lease, such as the last aborts, must end.
        await scene.lease.give_back()
        assert scene.shares[-1] == (1 if how == "the ledger does not answer" else 0.5)

    scene(act)


def test_given_back_once(caplog: pytest.LogCaptureFixture) -> None:
    async def act(scene: Scene) -> None:
        await scene.lease.take()
        scene.lease.lose(Worker(1, "a worker"))
        await scene.lease.give_back()
        await scene.lease.give_back()
        assert scene.books.ended == [1]
        assert scene.lease.state is LeaseState.NONE
        await scene.lease.take()
        scene.books.is_broken = True
        await scene.lease.give_back()

    scene(act)
    assert "the claimed files are released in 60 s: the disk is full" in caplog.text


@pytest.mark.parametrize(("is_limited", "granted", "said"), [(True, 0, 1), (True, WHOLE // 2, 0), (False, 0, 0)])
def test_a_wait_for_a_share_of_limits_is_said(
    caplog: pytest.LogCaptureFixture, is_limited: bool, granted: int, said: int
) -> None:
    async def take() -> None:
        books = Books()
        books.share = Share(granted, WHOLE)
        lease = Lease(books, "me", LEASE_S, asyncio.get_running_loop().time, host="a host", is_limited=is_limited)
        await lease.take()
        await lease.give_back()

    caplog.set_level("INFO")
    play(take())
    assert len([record for record in caplog.records if "a share of the limits" in record.message]) == said
