"""A limit by the clock: every minute of the day has one, ranges cross midnight, and nonsense is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polyb2.core.schedule import DAY_MINUTES, Schedule, parse_schedule

MINUTES = st.integers(0, DAY_MINUTES - 1)


def at(text: str, clock: str) -> int:
    hour, minute = clock.split(":")
    return parse_schedule(text).at(int(hour) * 60 + int(minute))


@pytest.mark.parametrize(
    ("text", "clock", "limit"),
    [
        ("50M", "12:00", 50_000_000),
        ("0", "00:00", 0),
        ("08:00-18:00=50M,*=0", "07:59", 0),
        ("08:00-18:00=50M,*=0", "08:00", 50_000_000),
        ("08:00-18:00=50M,*=0", "17:59", 50_000_000),
        ("08:00-18:00=50M,*=0", "18:00", 0),
        ("08:00-18:00=50M", "18:00", 0),
        ("22:00-06:00=0,*=1MiB", "23:30", 0),
        ("22:00-06:00=0,*=1MiB", "05:59", 0),
        ("22:00-06:00=0,*=1MiB", "06:00", 1 << 20),
        ("18:00-24:00=5M,*=1M", "23:59", 5_000_000),
        ("18:00-24:00=5M,*=1M", "00:00", 1_000_000),
        ("24:00-6:00=5M,*=1M", "00:00", 5_000_000),
        (" *=3M , 8:00 - 9:00 = 2M ", "08:30", 2_000_000),
        ("America/New_York 09:30-16:00=20M,*=0", "10:00", 20_000_000),
        ("08:00-12:00=1,12:00-18:00=2,18:00-08:00=3", "12:00", 2),
    ],
)
def test_the_limit_of_a_minute(text: str, clock: str, limit: int) -> None:
    assert at(text, clock) == limit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a size"),
        ("fast", "not a size"),
        ("08:00-18:00", "not a size"),
        ("08:00-18:00=50M,*", "has no figure"),
        ("08:00-18:00=50M,", "has no figure"),
        ("08:00-18:00=fast", "not a size"),
        ("8-18=50M", "not a range of the day"),
        ("08:00=50M", "not a range of the day"),
        ("08:00-25:00=50M", "not a time of day"),
        ("08:60-09:00=50M", "not a time of day"),
        ("24:01-09:00=50M", "not a time of day"),
        ("08:00-08:00=50M", "*=50.0MB"),
        ("00:00-24:00=50M,08:00-09:00=1M", "overlap"),
        ("08:00-18:00=50M,17:59-20:00=1M", "overlap"),
        ("22:00-06:00=50M,05:00-07:00=1M", "overlap"),
        ("22:00-06:00=50M,23:00-01:00=1M", "overlap"),
        ("*=1M,*=2M", "twice"),
        (f"*={10**19}", "more than any line"),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_schedule(text)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_zone_stands_in_front() -> None:
    assert parse_schedule("America/New_York 09:30-16:00=20M").zone == "America/New_York"
    assert parse_schedule("Etc/GMT+5 20M") == Schedule(20_000_000, (), "Etc/GMT+5")
    assert parse_schedule("20M").zone is None


@given(st.lists(st.tuples(MINUTES, MINUTES, st.integers(0, 10**12)), max_size=5), st.integers(0, 10**12), MINUTES)
def test_every_minute_has_the_limit_of_the_one_range_that_holds_it(
    spans: list[tuple[int, int, int]], otherwise: int, minute: int
) -> None:
    minutes = [
        {(first + step) % DAY_MINUTES for step in range((last - first) % DAY_MINUTES)} for first, last, _ in spans
    ]
    assume(all(minutes))
    entries = [
        f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}={limit}" for first, last, limit in spans
    ]
    text = ",".join([*entries, f"*={otherwise}"])
    if sum(map(len, minutes)) > len(set().union(*minutes)):
        with pytest.raises(ValueError, match="overlap"):
            parse_schedule(text)
        return
    schedule = parse_schedule(text)
    expected = next((limit for held, (_, _, limit) in zip(minutes, spans, strict=True) if minute in held), otherwise)
    assert schedule.at(minute) == expected
    _assert_lasts(schedule, minute)


def _assert_lasts(schedule: Schedule, minute: int) -> None:
    """The limit holds up to the minute that ``until`` names, and not in it."""
    end, now = schedule.until(minute), schedule.at(minute)
    if end is None:
        assert {schedule.at(other) for other in range(DAY_MINUTES)} == {now}
        return
    assert schedule.at(end) != now
    assert {schedule.at((minute + step) % DAY_MINUTES) for step in range((end - minute) % DAY_MINUTES)} == {now}


@pytest.mark.parametrize(
    ("text", "minute", "words"),
    [
        ("0", 0, ""),
        ("50M", 0, "limit 50.0 MB/s"),
        ("08:00-18:00=50M", 8 * 60, "limit 50.0 MB/s until 18:00"),
        ("08:00-18:00=50M", 18 * 60, "no limit until 08:00"),
        ("08:00-18:00=50M,18:00-20:00=50M", 8 * 60, "limit 50.0 MB/s until 20:00"),
        ("08:00-18:00=50M,*=50M", 8 * 60, "limit 50.0 MB/s"),
    ],
)
def test_the_limit_in_words(text: str, minute: int, words: str) -> None:
    assert parse_schedule(text).words(minute) == words
