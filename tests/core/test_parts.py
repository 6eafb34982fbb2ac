"""Part plans: the file exactly covered, within the limits of both sides, the same for the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polyb2.core.parts import OBJECT_BYTES_MAX, PARTS_MAX, Part, PartPlan, fits_target, plan_parts
from polyb2.core.units import GIB, MIB

SMALLEST, LARGEST = 5 * MIB, 5 * 10**9
SIZES = st.one_of(st.integers(0, 100 * MIB), st.integers(0, OBJECT_BYTES_MAX))
PART_SIZES = st.one_of(st.none(), st.integers(SMALLEST, 200 * MIB), st.integers(SMALLEST, LARGEST))


@dataclass(frozen=True)
class Given:
    """The arguments of a plan."""

    size: int
    streams: int
    source_part_bytes: int | None
    wanted: int | None

    def plan(self) -> PartPlan:
        return plan_parts(self.size, streams=self.streams, source_part_bytes=self.source_part_bytes, wanted=self.wanted)


ANY = st.builds(Given, SIZES, st.integers(1, 1024), st.one_of(st.none(), st.integers(1, OBJECT_BYTES_MAX)), PART_SIZES)


@given(ANY)
def test_the_parts_cover_the_file_exactly(wanted: Given) -> None:
    plan = wanted.plan()
    parts = [plan.part(number) for number in range(1, plan.count + 1)]
    end = 0
    for number, part in enumerate(parts, 1):
        assert (part.number, part.offset) == (number, end)
        end += part.length
    assert end == wanted.size
    assert all(part.length == plan.part_bytes for part in parts[:-1])


@given(ANY)
def test_the_parts_keep_to_the_limits_of_the_target(wanted: Given) -> None:
    plan = wanted.plan()
    assert SMALLEST <= plan.part_bytes <= LARGEST
    assert 1 <= plan.count <= PARTS_MAX
    assert plan.part(plan.count).length > 0 or wanted.size == 0


@given(SIZES, st.integers(1, SMALLEST))
def test_a_wanted_size_below_the_least_is_raised_to_it(size: int, wanted: int) -> None:
    assert plan_parts(size, streams=1, wanted=wanted).part_bytes >= SMALLEST


@pytest.mark.parametrize(
    ("size", "fits"),
    [(-1, False), (0, True), (OBJECT_BYTES_MAX, True), (OBJECT_BYTES_MAX + 1, False), (2**63 - 1, False)],
)
def test_what_the_target_can_hold(size: int, fits: bool) -> None:
    assert fits_target(size) is fits


@given(PART_SIZES)
def test_the_largest_file_that_fits_is_cut_within_the_limits_whatever_was_wanted(wanted: int | None) -> None:
    plan = plan_parts(OBJECT_BYTES_MAX, streams=32, wanted=wanted)
    assert (plan.count <= PARTS_MAX, plan.part_bytes <= LARGEST) == (True, True)


@given(ANY)
def test_the_same_numbers_give_the_same_plan(wanted: Given) -> None:
    assert wanted.plan() == wanted.plan()
    assert PartPlan(wanted.size, wanted.plan().part_bytes) == wanted.plan()


@given(SIZES, st.integers(1, 1024))
def test_the_automatic_size_gives_each_stream_about_eight_parts_within_8_and_64_mib(size: int, streams: int) -> None:
    part_bytes = plan_parts(size, streams=streams).part_bytes
    aimed = min(max(size // (8 * streams), 8 * MIB), 64 * MIB)
    assert part_bytes == max(aimed, -(-size // 9900))


@given(SIZES, st.integers(SMALLEST, 128 * MIB))
def test_the_sources_part_size_is_taken_over_wherever_the_target_can_hold_it(size: int, theirs: int) -> None:
    assume(-(-size // theirs) <= PARTS_MAX)
    assert plan_parts(size, streams=32, source_part_bytes=theirs).part_bytes == theirs


@pytest.mark.parametrize("count", [9_901, PARTS_MAX])
def test_the_sources_part_size_is_taken_over_up_to_10000_parts_and_not_beyond(count: int) -> None:
    size, theirs = count * SMALLEST, SMALLEST
    assert plan_parts(size, streams=32, source_part_bytes=theirs) == PartPlan(size, theirs)
    assert plan_parts(PARTS_MAX * theirs + 1, streams=32, source_part_bytes=theirs).part_bytes == theirs + 1


@pytest.mark.parametrize("theirs", [1, SMALLEST - 1, 128 * MIB + 1, 5 * GIB])
def test_a_source_part_size_out_of_bounds_is_not_taken_over(theirs: int) -> None:
    assert plan_parts(GIB, streams=32, source_part_bytes=theirs) == plan_parts(GIB, streams=32)


@given(SIZES, st.integers(SMALLEST, LARGEST), st.integers(1, 200 * MIB))
def test_an_explicit_size_wins_wherever_9900_parts_suffice(size: int, wanted: int, theirs: int) -> None:
    assume(-(-size // wanted) <= 9900)
    assert plan_parts(size, streams=32, source_part_bytes=theirs, wanted=wanted).part_bytes == wanted


@pytest.mark.parametrize("count", [9_901, PARTS_MAX])
def test_an_explicit_size_wins_up_to_the_targets_10000_parts(count: int) -> None:
    assert plan_parts(count * SMALLEST, streams=32, wanted=SMALLEST) == PartPlan(count * SMALLEST, SMALLEST)


@pytest.mark.parametrize(
    ("size", "streams", "part_mib", "count"),
    [
        (0, 32, 8, 1),
        (300_000, 32, 8, 1),
        (8 * MIB, 32, 8, 1),
        (8 * MIB + 1, 32, 8, 2),
        (5 * GIB, 32, 20, 256),
        (10 * GIB, 1, 64, 160),
        (172 * GIB, 32, 64, 2752),
    ],
)
def test_plans_of_well_known_files(size: int, streams: int, part_mib: int, count: int) -> None:
    assert plan_parts(size, streams=streams) == (plan := PartPlan(size, part_mib * MIB))
    assert plan.count == count


def test_an_empty_file_is_one_empty_part() -> None:
    assert plan_parts(0, streams=32).part(1) == Part(1, 0, 0)
