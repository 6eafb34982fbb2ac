"""The clocks: the day is that of US Eastern whatever this machine's zone; leases have a clock that no step moves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2 import clock
from polyb2.clock import FAKE_NOW, Clock, Moment


@pytest.fixture
def zone() -> Iterator[Callable[[str], None]]:
    """Moves this process to another time zone, and back at the end."""
    with pytest.MonkeyPatch.context() as patch:

        def move(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield move
    time.tzset()


class At(Clock):
    """A clock that stands still."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def utc(self) -> datetime:
        return self._moment


@pytest.mark.parametrize(
    ("utc", "day"),
    [
        ("2024-01-15T04:59:59Z", date(2024, 1, 14)),
        ("2024-01-15T05:00:00Z", date(2024, 1, 15)),
        ("2024-07-15T03:59:59Z", date(2024, 7, 14)),
        ("2024-07-15T04:00:00Z", date(2024, 7, 15)),
        ("2024-03-10T04:59:59Z", date(2024, 3, 9)),  # still winter time at this midnight
        ("2024-03-11T03:59:59Z", date(2024, 3, 10)),  # a day of 23 hours
        ("2024-11-03T04:00:00Z", date(2024, 11, 3)),  # still summer time at this midnight
        ("2024-11-04T04:59:59Z", date(2024, 11, 3)),  # a day of 25 hours
        ("2024-01-01T00:00:00Z", date(2023, 12, 31)),
        ("2024-02-29T23:00:00-05:00", date(2024, 2, 29)),
    ],
)
def test_today_is_the_day_in_us_eastern(monkeypatch: pytest.MonkeyPatch, utc: str, day: date) -> None:
    monkeypatch.setenv(FAKE_NOW, utc)
    assert Clock().today() == day


@pytest.mark.parametrize("here", ["Pacific/Kiritimati", "Pacific/Niue", "UTC", "Europe/Berlin"])
def test_ancestor_yesterday_is_not_that_of_the_local_clock(
    monkeypatch: pytest.MonkeyPatch, zone: Callable[[str], None], here: str
) -> None:
    zone(here)
    monkeypatch.setenv(FAKE_NOW, "2024-01-08T04:30:00Z")
    assert Clock().today() - timedelta(1) == date(2024, 1, 6), "a Saturday: no weekday is left out"


@given(st.datetimes(datetime(2003, 9, 10), datetime(2037, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - the bounds
def test_today_lies_four_or_five_hours_behind_utc(moment: datetime) -> None:
    assert At(moment).today() in {(moment - timedelta(hours=hours)).date() for hours in (4, 5)}


def test_without_a_fake_the_time_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE_NOW, raising=False)
    before = datetime.now(UTC)
    assert before <= Clock().utc() <= datetime.now(UTC)
    assert Clock().utc().tzinfo is UTC


def test_one_reading_is_of_both_clocks_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_704_164_645_678_999_999)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 42_999_999)
    assert Clock().now() == Moment(1_704_164_645_678, 42, Clock().now().boot_id)
    assert Clock().wall_ms() == 1_704_164_645_678


def test_a_step_of_the_wall_clock_does_not_move_the_clock_of_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Clock().now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    after = Clock().now()
    assert after.wall_ms == 0
    assert before.mono_ms <= after.mono_ms < before.mono_ms + 60_000


def test_the_fake_day_leaves_leases_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE_NOW, "2001-01-01T00:00:00Z")
    assert Clock().now().wall_ms > 1_700_000_000_000


def test_all_processes_of_a_boot_share_its_id_and_its_monotonic_clock() -> None:
    words = "from polyb2.clock import Clock; now = Clock().now(); print(now.boot_id, now.mono_ms)"
    before = Clock().now()
    run = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    boot_id, mono_ms = run.stdout.split()
    assert boot_id == before.boot_id
    assert before.mono_ms <= int(mono_ms) <= Clock().now().mono_ms


def test_a_machine_without_a_boot_id_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", Path("/nowhere/boot_id"))
    clock._boot_id.cache_clear()
    try:
        assert Clock().now().boot_id == "unknown"
    finally:
        clock._boot_id.cache_clear()


# -- time zones --------------------------------------------------------------------------------------------------------

NOON = datetime(2024, 7, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("local", "name", "minute"),
    [
        ("Europe/Berlin", None, 14 * 60),
        (":Europe/Berlin", None, 14 * 60),
        ("Europe/Berlin", "America/New_York", 8 * 60),
        ("EST5EDT,M3.2.0,M11.1.0", None, 8 * 60),
        ("Asia/Kathmandu", None, 17 * 60 + 45),
        ("Mars/Olympus", None, 12 * 60),
    ],
)
def test_the_minute_of_the_day_where_somebody_lives(
    zone: Callable[[str], None], local: str, name: str | None, minute: int
) -> None:
    zone(local)
    assert clock.minute_of_day(NOON, clock.time_zone(name)) == minute


@pytest.mark.parametrize("name", ["Mars/Olympus", "America", "../../etc/passwd", "/etc/localtime"])
def test_a_zone_without_data_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        clock.time_zone(name)


@pytest.mark.parametrize(
    ("local", "unknown"),
    [("Mars/Olympus", "Mars/Olympus"), ("Europe/Berlin", None), ("EST5EDT,M3.2.0,M11.1.0", None), ("", None)],
)
def test_a_local_zone_that_nobody_knows_is_noticed(
    monkeypatch: pytest.MonkeyPatch, local: str, unknown: str | None
) -> None:
    monkeypatch.setenv("TZ", local)
    assert clock.unknown_local_zone() == unknown
