"""The trouble behind an error, the file's or its side's, and the doubts of a file: all of it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.records import Claim, ListedObject, Revision
from polyb2.core.retry import Timing
from polyb2.flow.inspect.entitlement import probe_reading
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.diagnosis import INTERMEDIARY_MAX, TRIES, TRIES_YOUNG, YOUNG_MS, Diagnosis, Doubts
from polyb2.remote.polygon import Source
from polyb2.waits import loop_s
from tests.conftest import DAY_AGGS, Bench, key
from tests.virtual import play


class Sides:
    """The results of the probes of both sides."""

    def __init__(self) -> None:
        self.trouble: list[RemoteError] = []
        self.diagnosis = Diagnosis(dict.fromkeys(Side, self._probe), Timing(probe_fresh_s=0.0))

    async def _probe(self, _near: str) -> bool:
        if self.trouble:
            raise self.trouble.pop()
        return True


async def test_a_403_beside_a_refused_listing_is_about_the_keys() -> None:
    """Of one file it would be about the plan."""
    sides = Sides()
    forbidden = RemoteError(Side.SOURCE, Kind.FORBIDDEN, "get was answered 403")
    assert await sides.diagnosis.behind(forbidden, "a", 0.0) is None
    refused = RemoteError(Side.SOURCE, Kind.KEYS_REFUSED, "list was answered 403")
    sides.trouble = [refused]
    assert await sides.diagnosis.behind(forbidden, "b", 0.0) is refused


async def test_a_dataset_that_fails_while_another_is_read_is_not_the_side() -> None:
    """Its neighbours fail as well, so a file that succeeded elsewhere has to be asked about."""
    lost = RemoteError(Side.SOURCE, Kind.CONNECTION_LOST, "the connection was lost")
    bad, good = key("2024-01-02", "a/bad"), key("2024-01-02", DAY_AGGS)

    async def probe(near: str) -> bool:
        if near == bad:
            raise lost
        return True

    diagnosis = Diagnosis({Side.SOURCE: probe}, Timing(probe_fresh_s=0.0))
    assert await diagnosis.behind(lost, bad, 0.0) is lost
    diagnosis.proved(good)
    assert await diagnosis.behind(lost, bad, 0.0) is None


def test_a_target_that_is_away_is_asked_once() -> None:
    """It is asked for a listing, wherever the file lies."""
    asked: list[str] = []

    async def act() -> None:
        away = RemoteError(Side.TARGET, Kind.UNREACHABLE, "the target cannot be reached")

        async def probe(near: str) -> bool:
            asked.append(near)
            raise away

        diagnosis = Diagnosis({Side.TARGET: probe})
        diagnosis.proved(key("2024-01-02", DAY_AGGS))
        lost = RemoteError(Side.TARGET, Kind.CONNECTION_LOST, "the connection was lost")
        assert await diagnosis.behind(lost, key("2024-01-02", "a/b"), loop_s()) is away

    play(act())
    assert len(asked) == 1


@pytest.mark.parametrize("is_over", [True, False], ids=["the trouble was over", "it may still last"])
def test_a_file_that_contradicts_its_listing_pauses_nothing_once_its_neighbours_were_read(is_over: bool) -> None:
    """Also where it was the reason of the pause: else each of its attempts begins a further one."""
    cut = RemoteError(Side.SOURCE, Kind.TRUNCATED, "the body ended after 1 of 2 bytes")

    async def act() -> None:
        probed = iter([is_over, True])

        async def probe(_near: str) -> bool:
            if next(probed):
                return True
            raise cut

        diagnosis = Diagnosis({Side.SOURCE: probe})
        breaker = CircuitBreaker(diagnosis, give_up_s=600.0, for_ever=False)
        breaker.report(cut, "a", 0)
        assert breaker.explains(loop_s()) is cut
        assert await breaker.admission(0)
        began_s = loop_s()
        await asyncio.sleep(5)
        trouble = await diagnosis.behind(cut, "a", began_s, breaker.explains(began_s))
        assert trouble is (None if is_over else cut)
        # One that began before the probe may have met what is over.
        assert breaker.explains(began_s - 0.1) is cut

    play(act())


# -- the probe of the source ------------------------------------------------------------------------------------------------

NEAR = key("2024-01-03", DAY_AGGS)
DAYS = [key(f"2024-01-{day:02}", DAY_AGGS) for day in (2, 3, 4, 31)]
CUT = RemoteError(Side.SOURCE, Kind.TRUNCATED, "the body ended after 0 of 1 bytes")


class Answers:
    """A source that lists ``days``; ``answers`` has the error of a GET, or the seconds that it takes."""

    def __init__(self, days: list[str], answers: dict[str, RemoteError | float]) -> None:
        self.days, self.answers = days, answers

    async def same_year(self, _key: str) -> list[ListedObject]:
        return [ListedObject(name, 1, "e", 0) for name in self.days]

    async def probe(self) -> None:
        pass

    @asynccontextmanager
    async def read(self, name: str, *_arguments: object, **_more: object) -> AsyncIterator[AsyncIterator[bytes]]:
        answer = self.answers.get(name, 0.0)
        if isinstance(answer, RemoteError):
            raise answer
        await asyncio.sleep(answer)
        yield _one_byte()


async def _one_byte() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("days", "answers", "found"),
    [
        (DAYS, {}, True),
        (DAYS, {DAYS[0]: 1000.0}, True),
        (DAYS, {DAYS[0]: 1000.0, DAYS[2]: 1000.0}, True),
        (DAYS, dict.fromkeys(DAYS, 1000.0), Kind.STALLED),
        (DAYS, {DAYS[0]: CUT, DAYS[2]: CUT}, True),
        (DAYS, dict.fromkeys(DAYS, CUT), Kind.TRUNCATED),
        (DAYS[:2], {DAYS[0]: CUT}, False),
        (DAYS[1:2], {}, False),
    ],
    ids=["all well", "one stalls", "two stall", "all stall", "two are cut", "all are cut", "the only one", "none"],
)
def test_the_source_is_away_only_if_no_neighbour_is_read(
    days: list[str], answers: dict[str, RemoteError | float], found: bool | Kind
) -> None:
    async def act() -> None:
        source = cast("Source", Answers(days, answers))
        probed = await Diagnosis({Side.SOURCE: partial(probe_reading, source)}).probe(Side.SOURCE, NEAR)
        assert (probed.problem.kind if probed.problem else probed.proven) == found

    play(act())


# -- doubts -----------------------------------------------------------------------------------------------------------------


def test_a_stranger_that_comes_again_and_again_is_believed() -> None:
    doubts = Doubts()
    for _ in range(INTERMEDIARY_MAX):
        assert not doubts.is_settled("a")
        doubts.note_intermediary("a", proofs=0, side_is_well=True)
    assert doubts.is_settled("a")


@pytest.mark.parametrize(("age_ms", "tries"), [(0, TRIES_YOUNG), (YOUNG_MS, TRIES)], ids=["young", "old"])
async def test_a_refusal_is_doubted_a_bounded_number_of_times(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, age_ms: int, tries: int
) -> None:
    async def reads_near(_source: object, _key: str) -> bool:
        return True

    monkeypatch.setattr("polyb2.flow.run.diagnosis.reads_near", reads_near)
    refused = RemoteError(Side.SOURCE, Kind.FORBIDDEN, "get was answered 403")
    revision = Revision(1, "e", 1, 10**12 - age_ms)
    claim = Claim(1, key("2024-01-02"), DAY_AGGS, revision, 2, 0, 1, "token", forbidden_before=True)
    doubts = Doubts()
    async with bench.open() as mirror:
        doubted = [await doubts.about(mirror.source, claim, refused, 10**12) for _ in range(tries + 3)]
    assert doubted == [True] * (tries - 1) + [False] * 4
