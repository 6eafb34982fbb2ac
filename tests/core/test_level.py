"""How many long bodies move at once: all where the thread has time, a few where it has none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.level import FEW, FULL, SPARE, Level

shares = st.floats(0, 1)


@given(st.integers(1, 200), st.lists(shares))
def test_the_level_stays_between_a_few_and_the_streams(streams: int, seen: list[float]) -> None:
    level = Level(streams)
    for share in seen:
        level.look(share)
        assert min(FEW, streams) <= level.bodies <= streams


@given(st.integers(1, 200), st.lists(shares, max_size=50), st.floats(0, SPARE - 0.05))
def test_whatever_was_before_all_may_move_soon_where_the_thread_has_time(
    streams: int, seen: list[float], share: float
) -> None:
    level = Level(streams)
    for before in seen:
        level.look(before)
    for _ in range(20):
        level.look(share)
    assert level.bodies == streams


@given(st.integers(1, 200), st.lists(shares, max_size=50), st.floats(FULL + 0.05, 1))
def test_whatever_was_before_a_few_are_left_where_it_has_none(streams: int, seen: list[float], share: float) -> None:
    level = Level(streams)
    for before in seen:
        level.look(before)
    for _ in range(20 + streams):
        level.look(share)
    assert level.bodies == min(FEW, streams)


def test_one_pause_of_a_busy_thread_lets_no_more_through() -> None:
    level = Level(32)
    for share in (1.0, 0.9, 0.1, 0.9, 0.8, 1.0):
        level.look(share)
        assert level.bodies == FEW
