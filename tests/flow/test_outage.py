"""The breaker of a side and the doubts of a file by themselves: what pauses claims, and that all of it ends."""

from __future__ import annotations

import asyncio

import pytest

from polyb2.core.errors import AccountStoppedError, Kind, RemoteError, Side
from polyb2.core.records import Claim, Revision
from polyb2.flow import outage as outages
from polyb2.flow.doubt import STRANGE_MAX, TRIES, TRIES_YOUNG, YOUNG_MS, Doubts
from polyb2.flow.outage import Outage
from polyb2.opening import open_mirror
from tests.conftest import DAY_AGGS, Bench, key

AWAY = RemoteError(Side.TARGET, Kind.UNREACHABLE, "nobody answers")


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PROBE_FIRST_S", 0.01)
    monkeypatch.setattr(outages, "PROBE_FRESH_S", 0.0)


class Sides:
    """What the probes of both sides find."""

    def __init__(self, give_up_s: float = 60.0) -> None:
        self.trouble: list[RemoteError] = []
        self.asked = 0
        self.outage = Outage(dict.fromkeys(Side, self._probe), give_up_s=give_up_s, for_ever=False)

    async def _probe(self, _near: str) -> bool:
        self.asked += 1
        if self.trouble:
            raise self.trouble.pop()
        return True


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_success_that_began_before_the_trouble_opens_nothing() -> None:
    """Its requests may have been answered while the side was still there."""
    outage = Sides().outage
    began_s = _now_s() - 1
    outage.report(AWAY, "a", outage.proofs)
    outage.proved("b", began_s)
    assert outage.is_closed
    outage.proved("c", _now_s())
    assert (outage.is_closed, outage.error) == (False, None)


async def test_one_file_finds_out_whether_it_is_over() -> None:
    """Asked until the side answers; then one claim is let through, however many files are at work beside it."""
    sides = Sides()
    outage = sides.outage
    sides.trouble = [AWAY, AWAY]
    outage.report(AWAY, "a", outage.proofs)
    assert await outage.admission(in_flight=2)
    assert sides.asked == 3
    assert not await outage.admission(in_flight=3), "a second one was let through"
    assert await outage.admission(in_flight=2), "the one that tried has ended"
    outage.report(AWAY, "a", outage.proofs)
    assert outage.is_closed


async def test_an_outage_is_given_up() -> None:
    sides = Sides(give_up_s=0.1)
    sides.trouble = [AWAY] * 1000
    sides.outage.report(AWAY, "a", sides.outage.proofs)
    async with asyncio.timeout(5):
        with pytest.raises(AccountStoppedError, match=r"gave up after .*nobody answers"):
            await sides.outage.admission(in_flight=0)
    assert sides.asked > 1


async def test_refused_keys_are_not_waited_for() -> None:
    sides = Sides()
    sides.outage.report(RemoteError(Side.SOURCE, Kind.KEYS_REFUSED, "no"), "a", sides.outage.proofs)
    with pytest.raises(AccountStoppedError, match="check POLYGON_S3_ACCESS_KEY_ID"):
        await sides.outage.admission(in_flight=0)
    assert sides.asked == 0


async def test_a_403_beside_a_refused_listing_is_about_the_keys() -> None:
    """Of one file it would be about the plan."""
    sides = Sides()
    forbidden = RemoteError(Side.SOURCE, Kind.FORBIDDEN, "get was answered 403")
    assert await sides.outage.behind(forbidden, "a") is None
    refused = RemoteError(Side.SOURCE, Kind.KEYS_REFUSED, "list was answered 403")
    sides.trouble = [refused]
    assert await sides.outage.behind(forbidden, "b") is refused


# -- doubts -----------------------------------------------------------------------------------------------------------------


def test_a_stranger_that_comes_again_and_again_is_believed() -> None:
    doubts = Doubts()
    for _ in range(STRANGE_MAX):
        assert not doubts.is_settled("a")
        doubts.note_strange("a", proofs=0, side_is_well=True)
    assert doubts.is_settled("a")


@pytest.mark.parametrize(("age_ms", "tries"), [(0, TRIES_YOUNG), (YOUNG_MS, TRIES)], ids=["young", "old"])
async def test_a_refusal_is_doubted_a_bounded_number_of_times(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, age_ms: int, tries: int
) -> None:
    async def reads_near(_source: object, _key: str) -> bool:
        return True

    monkeypatch.setattr("polyb2.flow.doubt.reads_near", reads_near)
    refused = RemoteError(Side.SOURCE, Kind.FORBIDDEN, "get was answered 403")
    revision = Revision(1, "e", 1, 10**12 - age_ms)
    claim = Claim(1, key("2024-01-02"), DAY_AGGS, revision, 2, 0, 1, "token", forbidden_before=True)
    doubts = Doubts()
    async with open_mirror(bench.configured()) as mirror:
        doubted = [await doubts.about(mirror.source, claim, refused, 10**12) for _ in range(tries + 3)]
    assert doubted == [True] * (tries - 1) + [False] * 4
