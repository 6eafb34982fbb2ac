"""The pace of a side: a simulated server that takes so many requests a second, and the laws that hold for any answers."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.pace import (
    AT_ONCE,
    CAREFUL,
    CUT,
    CUT_MOST,
    FAST,
    FLOOR,
    FORGOTTEN,
    GENTLY,
    GENTLY_S,
    Growth,
    Pace,
    Ticket,
)


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
    """Accepted and rejected requests of ``clients`` that ask again as soon as they are answered.

    Answers come after ``latency_s``, so that more requests meet the limit before the first is known to have met it.
    """
    now_s, accepted, rejected = 0.0, 0, 0
    free = [0.0] * clients
    answers: deque[tuple[float, Ticket]] = deque()
    while now_s < seconds:
        free.sort()
        now_s = max(free[0], now_s)
        while answers and answers[0][0] <= now_s:
            pace.throttled(*answers.popleft(), sure=True)
        if wait_s := pace.wait_s(now_s):
            now_s += min(wait_s, latency_s)
            continue
        ticket = pace.start(now_s)
        if bucket.takes(now_s):
            accepted += 1
            free[0] = now_s + latency_s
        else:
            rejected += 1
            answers.append((now_s + latency_s, ticket))
            free[0] = now_s + latency_s + 0.5  # a rejected request backs off by itself
    return accepted, rejected


@pytest.mark.parametrize("rate", [0.9, 5.0, 50.0, 500.0])
@pytest.mark.parametrize("burst_s", [0.2, 1.0])
@pytest.mark.parametrize("latency_s", [0.005, 0.06])
def test_a_limit_is_found_within_a_tenth_and_with_few_rejections(rate: float, burst_s: float, latency_s: float) -> None:
    seconds = max(120.0, 1000 / rate)
    bucket = Bucket(rate, max(1.0, rate * burst_s))
    accepted, rejected = simulate(Pace(), bucket, seconds, latency_s=latency_s, clients=32)
    assert accepted >= 0.9 * rate * (seconds - 15)  # until it is found
    # The first throttle meets everybody who is under way; after that it is one now and then.
    assert rejected <= 0.02 * accepted + 40


def test_without_a_throttle_nothing_waits_but_at_the_beginning() -> None:
    pace, waited = Pace(), 0.0
    for number in range(1000):
        now_s = waited + number / 1e5
        wait_s = pace.wait_s(now_s)
        assert wait_s == 0.0 or AT_ONCE <= number < GENTLY
        waited += wait_s
        pace.start(now_s + wait_s)
    assert 0 < waited < GENTLY * GENTLY_S
    assert pace.per_second(waited + 1.0) is None


def test_a_single_503_is_routine_and_a_tenth_of_all_is_a_limit() -> None:
    pace = Pace()
    tickets = [pace.start(number / 100) for number in range(100)]
    pace.throttled(1.0, tickets[90], sure=False)
    assert pace.per_second(1.0) is None
    for ticket in tickets[-10:]:
        pace.throttled(1.0, ticket, sure=False)
    assert pace.per_second(1.0) == pytest.approx(CUT * 100, rel=0.02)


def test_one_file_that_is_throttled_for_ever_holds_up_nobody_and_a_known_limit_is_heeded_at_once() -> None:
    pace = Pace()
    tickets = []
    for number in range(200):
        tickets.append(pace.start(number / 100))
        if number % 20 == 0:
            pace.throttled(number / 100, tickets[-1], sure=True)
    assert pace.per_second(2.0) is None
    for ticket in tickets[-30:]:
        pace.throttled(2.0, ticket, sure=True)
    found = pace.per_second(2.0)
    assert found is not None
    tickets = [pace.start(3.5 + number / found) for number in range(200)]
    pace.throttled(5.5, tickets[-1], sure=True)
    assert (pace.per_second(5.5) or 0) < found


def limited(ceiling: float = 0.0) -> Pace:
    """The pace of a side that was asked 100 times in a second, and refused the last ten."""
    pace = Pace(ceiling)
    tickets = [pace.start(number / 100) for number in range(100)]
    for ticket in tickets[-10:]:
        pace.throttled(1.0, ticket, sure=True)
    return pace


def test_what_was_asked_before_a_cut_does_not_cut_again() -> None:
    pace = Pace()
    tickets = [pace.start(number / 100) for number in range(100)]
    for ticket in tickets[-50:]:
        pace.throttled(1.0, ticket, sure=True)
    assert (pace.per_second(1.0) or 0) > 0.8 * 50


def test_what_is_refused_after_a_lull_cuts_by_half_and_not_to_what_little_was_asked() -> None:
    pace = limited()
    before = pace.per_second(5.0) or 0
    pace.throttled(5.0, pace.start(5.0), sure=True)
    assert pace.per_second(5.0) == pytest.approx(CUT * CUT_MOST * before)


def test_a_limit_that_was_met_at_its_own_pace_is_found_and_grows_by_less_than_a_per_cent_a_second() -> None:
    pace, now_s, ticket = limited(), 1.25, Ticket(0, 0.0)
    for _ in range(400):
        now_s += pace.wait_s(now_s)
        ticket = pace.start(now_s)
    pace.throttled(now_s, ticket, sure=True)
    found = pace.per_second(now_s) or 0
    assert pace.per_second(now_s + 10) == pytest.approx(found * 1.08, rel=0.01)


def test_an_outage_from_the_first_request_on_is_over_within_a_minute() -> None:
    pace, now_s = Pace(), 0.0
    while now_s < 10:
        ticket = pace.start(now_s)
        pace.throttled(now_s, ticket, sure=True)
        now_s += max(0.001, pace.wait_s(now_s))
    assert FLOOR <= (pace.per_second(now_s) or 0) <= 1
    assert (pace.per_second(now_s + 60) or FORGOTTEN) > 50


def test_a_refusal_that_took_longer_than_the_measurement_still_slows() -> None:
    pace = Pace()
    old = [pace.start(0.0) for _ in range(5)]
    for number in range(200):
        pace.start(6.0 + number / 50)
    for ticket in old:
        pace.throttled(10.0, ticket, sure=True)
    assert (pace.per_second(10.0) or 0) == pytest.approx(CUT * CUT_MOST * 50, rel=0.05)


def test_a_throttle_that_passed_is_forgotten_and_the_ceiling_stays() -> None:
    pace = limited(300)
    assert pace.per_second(1.0) == pytest.approx(CUT * 100, rel=0.05)
    assert pace.per_second(600.0) == 300
    # And one that comes then is the first again.
    tickets = [pace.start(600 + number / 100) for number in range(100)]
    pace.throttled(601.0, tickets[-1], sure=True)
    assert pace.per_second(601.0) == 300


@given(st.floats(0.2, 1000), st.floats(0, 200), st.floats(0, 200), st.sampled_from([FAST, CAREFUL]))
def test_growth_is_steady_and_does_not_depend_on_when_it_is_looked_at(
    rate: float, first_s: float, then_s: float, growth: Growth
) -> None:
    whole = growth.grown(rate, first_s + then_s)
    assert whole == pytest.approx(growth.grown(growth.grown(rate, first_s), then_s), rel=1e-6)
    assert whole >= rate


@given(
    st.just(0.0) | st.floats(0.01, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["start", "sure", "perhaps"])), max_size=80),
)
def test_whatever_comes_something_is_asked_and_never_more_than_the_ceiling(
    ceiling: float, events: list[tuple[float, str]]
) -> None:
    pace, now_s, ticket = Pace(ceiling), 0.0, None
    for after_s, what in events:
        now_s += after_s
        if what == "start":
            now_s += pace.wait_s(now_s)
            ticket = pace.start(now_s)
        elif ticket is not None:
            pace.throttled(now_s, ticket, sure=what == "sure")
        rate = pace.per_second(now_s)
        if rate is None:
            assert not ceiling
        else:
            assert min(FLOOR, ceiling or FLOOR) <= rate <= (ceiling or FORGOTTEN)
        assert pace.wait_s(now_s) <= max(2 / FLOOR, 2 / ceiling if ceiling else 0)
