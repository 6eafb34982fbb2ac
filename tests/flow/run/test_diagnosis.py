"""The trouble behind an error, the file's or its side's, and the doubts of a file: all of it ends."""

from __future__ import annotations

import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.records import Claim, Revision
from polyb2.core.retry import Timing
from polyb2.flow.run.diagnosis import Diagnosis
from polyb2.flow.run.doubts import INTERMEDIARY_MAX, TRIES, TRIES_YOUNG, YOUNG_MS, Doubts
from tests.conftest import DAY_AGGS, Bench, key


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

    monkeypatch.setattr("polyb2.flow.run.doubts.reads_near", reads_near)
    refused = RemoteError(Side.SOURCE, Kind.FORBIDDEN, "get was answered 403")
    revision = Revision(1, "e", 1, 10**12 - age_ms)
    claim = Claim(1, key("2024-01-02"), DAY_AGGS, revision, 2, 0, 1, "token", forbidden_before=True)
    doubts = Doubts()
    async with bench.open() as mirror:
        doubted = [await doubts.about(mirror.source, claim, refused, 10**12) for _ in range(tries + 3)]
    assert doubted == [True] * (tries - 1) + [False] * 4
