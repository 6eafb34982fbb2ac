"""The rate limiter: its laws on the simulation (``rate_laws.py``), and properties that hold for any answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.rate_limit import FASTER, FLOOR, SEARCH, START, RateLimiter, Ticket
from tests.core.rate_laws import Law, Place, grid

SEEDS = range(1)
PLACES = [
    Place(slots, ms / 1000) for slots, ms in ((1, 1), (1, 200), (4, 30), (16, 1), (16, 30), (128, 30), (128, 200))
]
LAWS = list(grid(PLACES, whole=False))


@pytest.mark.parametrize(("name", "law", "place"), [pytest.param(*one, id=f"{one[0]}; {one[2]}") for one in LAWS])
def test_the_laws_hold(name: str, law: Law, place: Place) -> None:
    assert not [f"{name}; {place}; seeds {SEEDS}: {words}" for words in law(place, SEEDS)]


def paced(limiter: RateLimiter, now_s: float, refused: list[bool]) -> float:
    """One request after the other, each answered at once; the time at the end."""
    for answer in refused:
        now_s += limiter.wait_s(now_s)
        limiter.answered(now_s, limiter.start(now_s), refused=answer)
    return now_s


def test_without_a_refusal_nothing_waits_after_the_first_moments() -> None:
    limiter = RateLimiter()
    assert paced(limiter, 0.0, [False] * 100) < 1
    assert limiter.per_second > 2 * START
    now_s = paced(limiter, 1.0, [False] * 10_000)
    assert limiter.limit is None
    assert paced(limiter, now_s, [False] * 1000) - now_s < 0.1


def test_a_single_refusal_changes_nothing() -> None:
    limiter = RateLimiter()
    now_s = paced(limiter, 0.0, [False] * 50)
    before = limiter.per_second
    paced(limiter, now_s, [True])
    assert limiter.per_second == before


def test_answers_to_requests_from_before_a_change_do_not_count() -> None:
    limiter = RateLimiter()
    early = [limiter.start(0.0) for _ in range(1000)]
    for ticket in early[:3]:
        limiter.answered(0.1, ticket, refused=True)
    before = limiter.per_second
    for ticket in early[3:]:
        limiter.answered(0.1, ticket, refused=ticket.number % 2 == 0)
        assert limiter.per_second == before


def test_what_would_wait_for_less_than_a_timer_takes_starts_at_once_and_counts() -> None:
    limiter = RateLimiter(1000.0)
    now_s = paced(limiter, 0.0, [False] * 1000)
    assert limiter.per_second == 1000
    now_s, together = now_s + 1, 0
    while not limiter.wait_s(now_s):
        limiter.start(now_s)
        together += 1
    assert 5 <= together <= 7
    assert paced(limiter, now_s, [False] * 2000) - now_s >= 2 - 0.005


def test_a_configured_rate_is_never_exceeded() -> None:
    limiter = RateLimiter(30.0)
    assert paced(limiter, 0.0, [False] * 300) >= 296 / 30
    assert limiter.per_second == 30


@given(
    st.just(0.0) | st.floats(0.01, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["start", "accepted", "refused"])), max_size=200),
)
def test_whatever_comes_something_is_asked_and_never_more_than_the_ceiling(
    ceiling: float, events: list[tuple[float, str]]
) -> None:
    limiter, now_s = RateLimiter(ceiling), 0.0
    tickets: list[Ticket] = []
    for after_s, what in events:
        now_s += after_s
        if what == "start":
            now_s += limiter.wait_s(now_s)
            tickets.append(limiter.start(now_s))
        elif tickets:
            limiter.answered(now_s, tickets.pop(0), refused=what == "refused")
        most = FASTER * (START + SEARCH * len(events))
        assert min(FLOOR, ceiling or FLOOR) <= limiter.per_second <= (ceiling or most)
        assert limiter.wait_s(now_s) <= max(2 / FLOOR, 2 / ceiling if ceiling else 0)


def test_a_pace_that_only_grows_is_no_limit_to_tell_of() -> None:
    limiter, now_s, told = RateLimiter(), 0.0, []
    for refused in [False] * 50 + [True] * 200:
        now_s += limiter.wait_s(now_s)
        limiter.answered(now_s + 0.01, limiter.start(now_s), refused=refused)
        told.append(limiter.limit)
    assert told[:50] == [None] * 50
    assert any(told[50:])
    assert RateLimiter(7.0).limit == 7.0
