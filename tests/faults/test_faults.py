"""A part of the fault matrix that fits into every test run; ``make faults`` plays all of it and writes the report."""

from __future__ import annotations

import sys

import pytest

from tests.faults.catalogue import Case, catalogue
from tests.faults.death import Soak, die_at, kill_points
from tests.faults.matrix import play
from tests.faults.runners import frozen_at

EVERY = 16
"""Every so many cases of the matrix, in its stable order: a few of each step."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs signals and /proc of Linux")


@pytest.mark.parametrize("case", catalogue()[::EVERY], ids=lambda case: case.name)
async def test_a_fault_harms_nothing_and_is_survived(case: Case) -> None:
    played = await play(case)
    assert not played.violation, played.violation


async def test_a_process_killed_at_any_point_is_succeeded_by_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    points = await kill_points()
    assert len({point for _, point, _ in points}) > 40
    for scene, point, nth in points[::18]:
        await die_at(scene, point, nth)


async def test_random_kills_under_load_cost_little_and_lose_nothing() -> None:
    soak = Soak(seed=1)
    await soak.run(4)
    assert soak.kills == 4


@linux
@pytest.mark.parametrize(
    "point", ["ledger.claim.after", "target.create.before", "ledger.begin.before", "target.put.before"]
)
async def test_a_process_frozen_past_its_lease_settles_nothing(point: str) -> None:
    assert await frozen_at(point), "it never came there"
