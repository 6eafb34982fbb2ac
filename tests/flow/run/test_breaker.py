"""The circuit breaker, state by state, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from polyb2.core.errors import AccountStoppedError, Kind, Origin, RemoteError, Side
from polyb2.core.retry import TIMING
from polyb2.flow.run.breaker import BreakerState, CircuitBreaker
from polyb2.flow.run.diagnosis import Probed
from tests.virtual import play

AWAY = RemoteError(Side.SOURCE, Kind.UNREACHABLE, "the source cannot be reached")
REFUSED = RemoteError(Side.TARGET, Kind.KEYS_REFUSED, "the keys are refused")
MOVED = RemoteError(Side.TARGET, Kind.MISCONFIGURED, "a redirect", origin=Origin.INTERMEDIARY)
GIVE_UP_S = 600.0


class Sides:
    """Both sides; ``problem`` is the result of a probe."""

    def __init__(self) -> None:
        self.proofs = 0
        self.problem: RemoteError | None = AWAY
        self.troubled = AWAY.side
        self.probed_s: list[float] = []
        self.answers_after_s = 0.0

    def proved(self, key: str) -> None:
        del key
        self.proofs += 1

    async def probe(self, side: Side, near: str) -> Probed:
        assert near == "a file"
        assert side is self.troubled
        self.probed_s.append(now_s())
        await asyncio.sleep(self.answers_after_s)
        return Probed(self.problem)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def scene(act: Callable[[CircuitBreaker, Sides], Coroutine[Any, Any, None]], *, for_ever: bool = False) -> None:
    """Play an act in virtual time."""
    sides = Sides()
    play(act(CircuitBreaker(sides, give_up_s=GIVE_UP_S, for_ever=for_ever), sides))


def test_closed_lets_everything_through() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        assert breaker.state is BreakerState.CLOSED
        assert await breaker.admission(100)
        assert (now_s(), sides.probed_s) == (0.0, [])

    scene(act)


def test_open_probes_ever_more_slowly_and_then_tries_one_file() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        breaker.report(AWAY, "a file", 0)
        assert (breaker.state, breaker.error) == (BreakerState.OPEN, AWAY)
        asyncio.get_running_loop().call_later(100, setattr, sides, "problem", None)
        assert await breaker.admission(0)
        gaps = [round(after - before, 3) for before, after in zip([0.0, *sides.probed_s], sides.probed_s, strict=False)]
        assert gaps[:6] == [TIMING.probe_first_s * 2**n for n in range(6)]
        assert max(gaps) <= TIMING.probe_limit_s
        assert breaker.state is BreakerState.HALF_OPEN

    scene(act)


@pytest.mark.parametrize(("beside", "others"), [(0, [1, 0]), (3, [4, 3, 2])])
def test_half_open_admits_a_second_file_only_when_the_first_has_ended(beside: int, others: list[int]) -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        sides.problem = None
        breaker.report(AWAY, "a file", 0)
        assert await breaker.admission(beside)
        assert [await breaker.admission(in_flight) for in_flight in others] == [False, *[True] * (len(others) - 1)]

    scene(act)


def test_half_open_closes_with_a_proof_and_opens_with_a_report() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        sides.problem = None
        breaker.report(AWAY, "a file", 0)
        await breaker.admission(0)
        breaker.report(AWAY, "a file", 0)
        assert breaker.state is BreakerState.OPEN
        await breaker.admission(0)
        assert sides.probed_s == [TIMING.probe_first_s, 3 * TIMING.probe_first_s]
        breaker.proved("a file", now_s())
        assert (breaker.state, breaker.error) == (BreakerState.CLOSED, None)
        # The next trouble is probed as soon as the first.
        sides.probed_s.clear()
        began_s = now_s()
        breaker.report(AWAY, "a file", sides.proofs)
        await breaker.admission(0)
        assert sides.probed_s == [began_s + TIMING.probe_first_s]

    scene(act)


def test_a_proof_of_an_attempt_from_before_the_trouble_closes_nothing() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        await asyncio.sleep(5)
        breaker.report(AWAY, "a file", sides.proofs)
        states = []
        for began_s in (4.0, 5.0):
            breaker.proved("another", began_s)
            states.append(breaker.state)
        assert states == [BreakerState.OPEN, BreakerState.CLOSED]

    scene(act)


def test_an_error_that_is_older_than_a_proof_opens_nothing() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        before = sides.proofs
        breaker.proved("a file", now_s())
        states = []
        for error in (AWAY, REFUSED):
            breaker.report(error, "another", before)
            states.append(breaker.state)
        assert states == [BreakerState.CLOSED, BreakerState.OPEN]

    scene(act)


@pytest.mark.parametrize(
    ("error", "after_s"),
    [(AWAY, GIVE_UP_S), (MOVED, TIMING.moved_limit_s), (REFUSED, 0.0)],
    ids=["away", "moved", "refused"],
)
def test_a_run_gives_up_in_time_and_a_watch_never(error: RemoteError, after_s: float) -> None:
    async def gives_up(breaker: CircuitBreaker, sides: Sides) -> None:
        sides.troubled = error.side
        breaker.report(error, "a file", 0)
        with pytest.raises(AccountStoppedError, match=error.message):
            await breaker.admission(0)
        assert now_s() == pytest.approx(after_s)

    async def waits(breaker: CircuitBreaker, sides: Sides) -> None:
        sides.troubled = error.side
        breaker.report(error, "a file", 0)
        asyncio.get_running_loop().call_later(3000, setattr, sides, "problem", None)
        assert await breaker.admission(0)
        assert now_s() >= 3000

    scene(gives_up)
    scene(waits, for_ever=True)


def test_refused_keys_end_a_run_that_waits_for_a_side_at_once() -> None:
    async def reported(breaker: CircuitBreaker, sides: Sides) -> None:
        del sides
        breaker.report(AWAY, "a file", 0)

        def two_files() -> None:
            for error in (REFUSED, AWAY):
                breaker.report(error, "another", 0)

        # The probes are a minute apart by then.
        asyncio.get_running_loop().call_later(100, two_files)
        with pytest.raises(AccountStoppedError, match="the keys are refused"):
            await breaker.admission(0)
        assert now_s() == 100

    async def probed(breaker: CircuitBreaker, sides: Sides) -> None:
        breaker.report(AWAY, "a file", 0)
        sides.problem = REFUSED
        with pytest.raises(AccountStoppedError, match="the keys are refused"):
            await breaker.admission(0)
        assert now_s() == TIMING.probe_first_s

    async def between_a_probe_and_its_answer(breaker: CircuitBreaker, sides: Sides) -> None:
        breaker.report(AWAY, "a file", 0)
        sides.problem, sides.answers_after_s = None, 5.0
        asyncio.get_running_loop().call_later(2, breaker.report, REFUSED, "another", 0)
        with pytest.raises(AccountStoppedError, match="the keys are refused"):
            await breaker.admission(0)

    for act in (reported, probed, between_a_probe_and_its_answer):
        scene(act)


def test_a_probe_that_fails_after_the_side_was_proven_well_slows_nothing_down() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        breaker.report(AWAY, "a file", 0)
        sides.answers_after_s = 5.0
        asyncio.get_running_loop().call_later(2, breaker.proved, "a file", 2.0)
        assert await breaker.admission(0)
        assert breaker.state is BreakerState.CLOSED
        sides.probed_s.clear()
        sides.problem, began_s = None, now_s()
        breaker.report(AWAY, "a file", sides.proofs)
        await breaker.admission(0)
        assert sides.probed_s == [began_s + TIMING.probe_first_s]

    scene(act)


def test_a_breaker_that_closes_ends_the_wait_for_the_next_probe() -> None:
    async def act(breaker: CircuitBreaker, sides: Sides) -> None:
        breaker.report(AWAY, "a file", 0)
        asyncio.get_running_loop().call_later(100, breaker.proved, "a file", 100.0)
        assert await breaker.admission(0)
        assert (now_s(), sides.problem) == (100, AWAY)

    scene(act)
