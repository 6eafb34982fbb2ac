"""The pace of a side: a simulated server that takes so many requests a second, and the laws that hold for any answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.pace import CUT, FLOOR, FORGOTTEN, Pace


class Bucket:
    """A side that takes ``rate`` requests a second, and ``burst`` more after a rest."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens, self.since_s = rate, burst, burst, 0.0

    def takes(self, now_s: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now_s - self.since_s) * self.rate)
        self.since_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def simulate(pace: Pace, bucket: Bucket, seconds: float, *, latency_s: float, clients: int) -> tuple[int, int]:
    """Accepted and rejected requests of ``clients`` that ask again as soon as they are answered."""
    now_s, accepted, rejected = 0.0, 0, 0
    free = [0.0] * clients
    while now_s < seconds:
        free.sort()
        now_s = max(free[0], now_s)
        start_s = now_s + pace.wait_s(now_s)
        pace.start(start_s)
        if bucket.takes(start_s):
            accepted += 1
            free[0] = start_s + latency_s
        else:
            rejected += 1
            pace.throttled(start_s + latency_s, sure=True)
            free[0] = start_s + 0.5  # a rejected request backs off by itself
        now_s = start_s
    return accepted, rejected


@pytest.mark.parametrize("rate", [5.0, 50.0, 500.0])
@pytest.mark.parametrize("burst_s", [0.2, 1.0])
def test_a_limit_is_found_within_a_tenth_and_with_few_rejections(rate: float, burst_s: float) -> None:
    bucket = Bucket(rate, max(1.0, rate * burst_s))
    seconds = 120.0
    accepted, rejected = simulate(Pace(), bucket, seconds, latency_s=0.005, clients=32)
    assert accepted >= 0.9 * rate * seconds
    # The first throttle meets everybody who is under way; after that it is one now and then.
    assert rejected <= 0.02 * accepted + 40


def test_without_a_throttle_nothing_waits() -> None:
    pace = Pace()
    for number in range(1000):
        assert pace.wait_s(number / 1e5) == 0.0
        pace.start(number / 1e5)
    assert pace.per_second(1.0) is None


def test_a_single_503_is_routine_and_a_tenth_of_all_is_a_limit() -> None:
    pace = Pace()
    for number in range(100):
        pace.start(number / 100)
    pace.throttled(1.0, sure=False)
    assert pace.per_second(1.0) is None
    for _ in range(10):
        pace.throttled(1.0, sure=False)
    assert pace.per_second(1.0) == pytest.approx(CUT * 89, rel=0.02)


def test_one_file_that_is_throttled_for_ever_holds_up_nobody_and_a_known_limit_is_heeded_at_once() -> None:
    pace = Pace()
    for number in range(200):
        pace.start(number / 100)
        if number % 20 == 0:
            pace.throttled(number / 100, sure=True)
    assert pace.per_second(2.0) is None
    for _ in range(30):
        pace.throttled(2.0, sure=True)
    found = pace.per_second(2.0)
    assert found is not None
    for number in range(200):
        pace.start(3.5 + number / found)
    pace.throttled(5.5, sure=True)
    assert (pace.per_second(5.5) or 0) < found


def test_a_throttle_that_passed_is_forgotten_and_the_ceiling_stays() -> None:
    pace = Pace(300)
    for number in range(100):
        pace.start(number / 100)
    for _ in range(10):
        pace.throttled(1.0, sure=True)
    assert pace.per_second(1.0) == pytest.approx(CUT * 90, rel=0.02)
    assert pace.per_second(21.0) == pytest.approx(CUT * 90 * 1.2, rel=0.02)
    assert pace.per_second(600.0) == 300


@given(
    st.floats(0, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["start", "sure", "perhaps"])), max_size=80),
)
def test_whatever_comes_something_is_asked_and_never_more_than_the_ceiling(
    ceiling: float, events: list[tuple[float, str]]
) -> None:
    pace, now_s = Pace(ceiling), 0.0
    for after_s, what in events:
        now_s += after_s
        if what == "start":
            now_s += pace.wait_s(now_s)
            pace.start(now_s)
        else:
            pace.throttled(now_s, sure=what == "sure")
        rate = pace.per_second(now_s)
        if rate is None:
            assert not ceiling
        else:
            assert min(FLOOR, ceiling or FLOOR) <= rate <= (ceiling or FORGOTTEN)
        assert pace.wait_s(now_s) <= max(2 / FLOOR, 2 / ceiling if ceiling else 0)
