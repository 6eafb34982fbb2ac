"""The states of days: the rules, one by one, and the laws that hold for every year."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.calendar import closed, due
from polyb2.core.coverage import (
    BEHIND,
    LATE_FOR,
    SETTLED,
    Day,
    DayState,
    FileOfDay,
    MonthSeen,
    Seen,
    begin_of,
    lag_s,
    year_of,
)
from polyb2.core.status import Status

DATASET = "us_stocks_sip/day_aggs_v1"
TUESDAY, SATURDAY = date(2024, 1, 2), date(2024, 1, 6)
BEGIN = date(2003, 9, 10)
LONG_AFTER = datetime(2024, 6, 1, tzinfo=UTC)


def row(day: date, status: Status = Status.COMPLETED, *, reason: str | None = None, older: bool = False) -> FileOfDay:
    mirrored = 2 if status is Status.COMPLETED else 1 if older else None
    return FileOfDay(day, status, reason, 10, 2, mirrored)


def seen(listed_at: datetime | None, *days: date) -> Seen:
    """The result of one listing of the whole dataset; None for none."""
    if listed_at is None:
        return Seen()
    ms = int(listed_at.timestamp() * 1000)
    months = {(day.year, day.month): 0 for day in days}
    for day in days:
        months[day.year, day.month] |= 1 << (day.day - 1)
    return Seen({month: MonthSeen(bits, ms) for month, bits in months.items()}, ms)


def state(day: date, file: FileOfDay | None, listed: Seen, now: datetime = LONG_AFTER, begin: date = BEGIN) -> DayState:
    days = year_of(DATASET, day.year, [file] if file else [], listed, begin, now).days
    (found,) = [item.state for item in days if item.date == day]
    return found


@pytest.mark.parametrize(
    ("status", "older", "expected"),
    [
        (Status.COMPLETED, False, DayState.MIRRORED),
        (Status.PENDING, False, DayState.QUEUED),
        (Status.PENDING, True, DayState.REVISED),
        (Status.PROCESSING, False, DayState.QUEUED),
        (Status.PROCESSING, True, DayState.REVISED),
        (Status.FAILED_DOWNLOAD, False, DayState.FAILED),
        (Status.FAILED_UPLOAD, True, DayState.FAILED),
        (Status.PERMANENT_FAILURE, False, DayState.FAILED),
        (Status.NOT_ENTITLED, False, DayState.NOT_ENTITLED),
    ],
)
@pytest.mark.parametrize("day", [TUESDAY, SATURDAY])
def test_a_file_says_what_became_of_its_day_whatever_the_calendar_expects(
    status: Status, older: bool, expected: DayState, day: date
) -> None:
    assert state(day, row(day, status, older=older), seen(LONG_AFTER, day)) is expected


def test_a_listed_day_that_nobody_chose_is_available_even_on_a_holiday() -> None:
    assert state(SATURDAY, None, seen(LONG_AFTER, SATURDAY)) is DayState.AVAILABLE
    assert state(SATURDAY, None, seen(LONG_AFTER)) is DayState.CLOSED


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (timedelta(seconds=-1), DayState.EXPECTED),
        (timedelta(), DayState.LATE),
        (LATE_FOR - timedelta(seconds=1), DayState.LATE),
        (LATE_FOR, DayState.MISSING),
    ],
)
def test_a_day_without_a_file_is_awaited_then_late_then_missing(passed: timedelta, expected: DayState) -> None:
    now = due(TUESDAY) + passed
    assert state(TUESDAY, None, seen(now), now) is expected


@pytest.mark.parametrize("listed_at", [None, due(TUESDAY) - timedelta(seconds=1)], ids=["never", "too early"])
def test_nobody_says_missing_who_did_not_look_since_the_usual_hour(listed_at: datetime | None) -> None:
    assert state(TUESDAY, None, seen(listed_at)) is DayState.UNKNOWN


def test_a_month_that_was_listed_alone_is_as_fresh_as_that_listing() -> None:
    long_ago, ms = datetime(2023, 1, 1, tzinfo=UTC), int(LONG_AFTER.timestamp() * 1000)
    listed = Seen({(2024, 1): MonthSeen(0, ms)}, seen(long_ago).whole_ms)
    assert state(TUESDAY, None, listed) is DayState.MISSING
    assert state(date(2024, 2, 1), None, listed) is DayState.UNKNOWN


def test_a_file_that_was_listed_once_and_never_came_is_as_one_that_never_was() -> None:
    gone = row(TUESDAY, Status.PERMANENT_FAILURE, reason="source_gone")
    assert state(TUESDAY, gone, seen(LONG_AFTER)) is DayState.MISSING
    kept = row(TUESDAY, Status.PERMANENT_FAILURE, reason="source_gone", older=True)
    assert state(TUESDAY, kept, seen(LONG_AFTER)) is DayState.FAILED
    gone = row(SATURDAY, Status.PERMANENT_FAILURE, reason="source_gone")
    assert state(SATURDAY, gone, seen(LONG_AFTER)) is DayState.CLOSED


@pytest.mark.parametrize(
    ("dataset", "listed", "first_row", "expected"),
    [
        (DATASET, Seen(), None, "2003-09-10"),
        ("us_options_opra/quotes_v1", Seen(), None, "2022-03-07"),
        (DATASET, Seen(), date(2003, 1, 2), "2003-01-02"),  # the listing wins
        (DATASET, Seen({(2024, 1): MonthSeen(0b10, 1)}), None, "2003-09-10"),  # one month tells of no other
        (DATASET, Seen({(2024, 1): MonthSeen(0b110, 1)}, 1), None, "2024-01-02"),
        (DATASET, Seen({}, 1), None, "2003-09-10"),
        ("us_bonds/new_v1", Seen({(2024, 2): MonthSeen(1, 1)}), None, "2024-02-01"),
        ("us_bonds/new_v1", Seen(), None, None),
    ],
)
def test_a_dataset_begins_with_what_is_listed_or_as_documented(
    dataset: str, listed: Seen, first_row: date | None, expected: str | None
) -> None:
    found = begin_of(dataset, listed, first_row)
    assert (found and found.isoformat()) == expected


def test_days_before_the_first_file_are_neither_missing_nor_closed() -> None:
    listed = seen(LONG_AFTER)
    assert state(SATURDAY, None, listed, begin=date(2024, 2, 1)) is DayState.BEFORE
    assert state(TUESDAY, None, listed, begin=date(2024, 2, 1)) is DayState.BEFORE
    assert state(date(2024, 2, 1), None, listed, begin=date(2024, 2, 1)) is DayState.MISSING


def test_the_lag_is_that_of_the_first_due_day_that_the_mirror_is_behind_with() -> None:
    def day(number: int, what: DayState) -> Day:
        return Day(DATASET, date(2024, 1, number), what, None, None)

    now = due(date(2024, 1, 4))
    assert lag_s([day(number, what) for number, what in enumerate(set(DayState) - BEHIND, 1)], now) == 0
    assert lag_s([day(2, DayState.MIRRORED), day(3, DayState.QUEUED), day(4, DayState.LATE)], now) == 86_400
    assert lag_s([day(5, DayState.QUEUED)], now) == 0  # before its usual hour nothing is behind


_DAYS = st.dates(date(2024, 1, 1), date(2024, 12, 31))
_MOMENTS = st.integers(-30 * 24, 400 * 24).map(lambda hours: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hours))
_STATUSES = st.sampled_from(Status)


@given(
    st.dictionaries(_DAYS, _STATUSES, max_size=30),
    st.sets(_DAYS, max_size=30),
    st.none() | _MOMENTS,
    _MOMENTS,
    st.sampled_from([DATASET, "global_crypto/day_aggs_v1", "us_futures_cme/trades_v1", "us_bonds/new_v1"]),
)
def test_what_holds_for_every_calendar(
    rows: dict[date, Status], listed: set[date], listed_at: datetime | None, now: datetime, dataset: str
) -> None:
    known = seen(listed_at, *listed)
    found = year_of(dataset, 2024, [row(day, status) for day, status in rows.items()], known, BEGIN, now)
    assert [day.date for day in found.days] == [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]
    assert found.counts().total() == 366
    for day in found.days:
        assert (day.closed_for is None) == (closed(dataset, day.date) is None)
        if day.date in rows:
            assert (day.state is DayState.MIRRORED) == (rows[day.date] is Status.COMPLETED)
        elif known.has(day.date):
            assert day.state is DayState.AVAILABLE
        elif day.state in {DayState.LATE, DayState.MISSING}:
            assert day.closed_for is None
            assert listed_at is not None
            assert due(day.date) <= listed_at
            assert due(day.date) <= now
        else:
            assert day.state in {*SETTLED, DayState.EXPECTED, DayState.UNKNOWN}
