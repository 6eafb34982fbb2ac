"""The number of bodies that move at once: all if thread and line carry them, a few otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyb2.core.concurrency import (
    ENOUGH,
    FEW,
    FIRST,
    FULL,
    MOMENT_S,
    SPARE,
    LineLimit,
    ThreadLimit,
    stall_factor,
    trickles,
)

shares = st.floats(0, 1)
few = settings(max_examples=8, deadline=None)


@given(st.integers(1, 200), st.lists(shares))
def test_the_level_stays_between_a_few_and_the_streams(streams: int, seen: list[float]) -> None:
    level = ThreadLimit(streams)
    for share in seen:
        level.look(share)
        assert min(FEW, streams) <= level.bodies <= streams


@given(st.integers(1, 200), st.lists(shares, max_size=50), st.floats(0, SPARE - 0.05))
def test_whatever_was_before_all_may_move_soon_where_the_thread_has_time(
    streams: int, seen: list[float], share: float
) -> None:
    level = ThreadLimit(streams)
    for before in seen:
        level.look(before)
    for _ in range(20):
        level.look(share)
    assert level.bodies == streams


@given(st.integers(1, 200), st.lists(shares, max_size=50), st.floats(FULL + 0.05, 1))
def test_whatever_was_before_a_few_are_left_where_it_has_none(streams: int, seen: list[float], share: float) -> None:
    level = ThreadLimit(streams)
    for before in seen:
        level.look(before)
    for _ in range(20 + streams):
        level.look(share)
    assert level.bodies == min(FEW, streams)


def test_one_pause_of_a_busy_thread_lets_no_more_through() -> None:
    level = ThreadLimit(32)
    for share in (1.0, 0.9, 0.1, 0.9, 0.8, 1.0):
        level.look(share)
        assert level.bodies == FEW


# -- the line -------------------------------------------------------------------------------------------------------------


class World:
    """Bodies of ``size`` bytes that share a line of ``rate`` bytes a second, each with at most ``each``."""

    def __init__(self, streams: int, rate: float, *, size: float = 8e6, each: float = 1e12) -> None:
        self.line = LineLimit(streams)
        self.streams, self.rate, self.size, self.each = streams, rate, size, each
        self.now_s = self.passed = 0.0
        self.bodies: list[list[float]] = []
        """The bytes left of each, and its start."""

    def live(self, seconds: float) -> int:
        """Let time pass; return the most bodies that moved at once in its second half."""
        until_s, most = self.now_s + seconds, 0
        while self.now_s < until_s:
            self._step(0.1)
            if self.now_s > until_s - seconds / 2:
                most = max(most, len(self.bodies))
        return most

    def _step(self, step_s: float) -> None:
        self._fill()
        self.now_s += step_s
        got = min(self.each, self.rate / len(self.bodies)) * step_s
        for body in self.bodies:
            self.passed += min(got, body[0])
            body[0] -= got
        for body in [body for body in self.bodies if body[0] <= 0]:
            self.bodies.remove(body)
            self.line.through(self.now_s - body[1])
        self._fill()
        lasting = sum(self.now_s - began_s > MOMENT_S for _, began_s in self.bodies)
        self.line.look(self.now_s, int(self.passed), len(self.bodies), lasting)

    def _fill(self) -> None:
        while len(self.bodies) < min(self.streams, self.line.bodies):
            self.bodies.append([self.size, self.now_s])


@few
@given(st.integers(1, 128), st.floats(1.0, 1000.0))
def test_a_line_that_gives_each_enough_is_used_by_all_at_once(streams: int, beyond: float) -> None:
    world = World(streams, streams * ENOUGH * 1.1 * beyond)
    assert world.live(2.0) == streams


@few
@given(st.integers(1, 128), st.floats(4_000, 4_000_000))
def test_on_a_full_line_no_more_move_than_it_carries(streams: int, rate: float) -> None:
    """But while twice as many are tried, once in minutes."""
    world = World(streams, rate)
    assert world.live(60.0) <= max(2 * FIRST, 4 * rate / ENOUGH)
    assert world.line.bodies <= max(FIRST, 2 * rate / ENOUGH)


@few
@given(st.sampled_from([8, 32]), st.floats(3_000, 60_000))
def test_where_each_connection_is_held_back_more_of_them_bring_more(streams: int, each: float) -> None:
    world = World(streams, 1e9, each=each, size=each * 20)
    assert world.live(300.0) == streams


def test_a_line_that_collapses_under_many_is_left_to_a_few_and_taken_back_when_it_recovers() -> None:
    world = World(32, 1e8)
    assert world.live(5.0) == 32
    world.rate = 125_000.0
    world.live(2 * 32 * 8e6 / 125_000)
    assert world.live(60.0) <= 2 * FIRST
    world.rate = 1e8
    assert world.live(5.0) == 32


@pytest.mark.parametrize("seconds", [0.1, 1.9])
def test_short_bodies_are_free_once_the_first_is_through_in_a_moment(seconds: float) -> None:
    line = LineLimit(32)
    assert line.is_crowded
    line.through(seconds)
    assert not line.is_crowded


def test_short_bodies_are_bound_as_long_as_none_is_through() -> None:
    line = LineLimit(32)
    line.through(2.1)
    assert line.is_crowded


@pytest.mark.parametrize(
    ("rate", "others", "given_up"),
    [
        (2.0, None, True), (99.0, None, True), (101.0, None, False), (2000.0, None, False),
        (2000.0, 30_000.0, False), (99.0, 30_000.0, True), (2000.0, 1e6, True), (4097.0, 1e9, False),
        (900.0, 80_000.0, False), (700.0, 80_000.0, True),
    ],
)  # fmt: skip
def test_a_trickle_is_a_matter_of_what_the_line_gives_the_others(
    rate: float, others: float | None, given_up: bool
) -> None:
    assert trickles(rate, others) is given_up


@pytest.mark.parametrize(("others", "factor"), [(None, 1), (0.0, 1), (1000.0, 3), (ENOUGH, 1), (1e6, 1)])
def test_on_a_full_line_a_body_is_waited_for_longer(others: float | None, factor: float) -> None:
    assert stall_factor(others) == factor
