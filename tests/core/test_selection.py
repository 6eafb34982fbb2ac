"""The files that a command is about: windows in US Eastern, inclusive ranges, dataset globs, listing prefixes."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.clock import FAKE_NOW, Clock
from polyb2.core.errors import UsageError
from polyb2.core.keys import FileName
from polyb2.core.selection import (
    EVERYTHING,
    MONTH_PREFIXES_MAX,
    DateRange,
    Mode,
    Selection,
    daily,
    historical,
    named_dates,
    parse_date,
    split_datasets,
)

DAY_AGGS = "us_stocks_sip/day_aggs_v1"
DAYS = st.dates(date(1990, 1, 1), date(2050, 12, 31))
SPANS = st.builds(lambda first, days: DateRange(first, first + timedelta(days)), DAYS, st.integers(0, 1500))


@pytest.mark.parametrize(
    ("utc", "lookback", "first", "last"),
    [
        ("2024-01-02T04:59:59+00:00", 0, date(2024, 1, 1), date(2024, 1, 1)),
        ("2024-01-02T05:00:00+00:00", 0, date(2024, 1, 2), date(2024, 1, 2)),
        ("2024-07-02T03:59:59+00:00", 7, date(2024, 6, 24), date(2024, 7, 1)),
        ("2024-07-02T04:00:00+00:00", 7, date(2024, 6, 25), date(2024, 7, 2)),
        ("2024-03-10T04:59:59+00:00", 1, date(2024, 3, 8), date(2024, 3, 9)),  # the clocks go forward on the 10th
        ("2024-03-11T03:59:59+00:00", 1, date(2024, 3, 9), date(2024, 3, 10)),
        ("2024-03-11T04:00:00+00:00", 1, date(2024, 3, 10), date(2024, 3, 11)),
        ("2024-11-04T04:59:59+00:00", 1, date(2024, 11, 2), date(2024, 11, 3)),  # and back on the 3rd
        ("2024-11-04T05:00:00+00:00", 1, date(2024, 11, 3), date(2024, 11, 4)),
        ("2024-03-01T12:00:00+00:00", 7, date(2024, 2, 23), date(2024, 3, 1)),
        ("2024-01-01T12:00:00+00:00", 7, date(2023, 12, 25), date(2024, 1, 1)),
    ],
)
def test_the_daily_window_ends_today_in_us_eastern(
    monkeypatch: pytest.MonkeyPatch, utc: str, lookback: int, first: date, last: date
) -> None:
    monkeypatch.setenv(FAKE_NOW, utc)
    assert daily(Clock().today(), lookback).ranges == (DateRange(first, last),)


@given(DAYS, st.integers(0, 400), st.integers(-500, 500))
def test_the_daily_window_is_inclusive_on_both_ends(today: date, lookback: int, offset: int) -> None:
    window = daily(today, lookback, (DAY_AGGS,))
    assert window.has_date(today + timedelta(offset)) is (-lookback <= offset <= 0)


def test_ancestor_weekends_are_not_left_out() -> None:
    monday = date(2024, 1, 8)
    assert all(daily(monday, 7).has_date(monday - timedelta(back)) for back in range(8))


def test_a_look_back_beyond_the_calendar_reaches_every_file() -> None:
    assert daily(date(2024, 1, 2), 10**6).has_date(date(2003, 9, 10))


@pytest.mark.parametrize(
    ("start", "end", "inside", "outside"),
    [
        (None, None, [date.min, date.max], []),
        (date(2024, 1, 2), None, [date(2024, 1, 2), date.max], [date(2024, 1, 1)]),
        (None, date(2024, 1, 2), [date.min, date(2024, 1, 2)], [date(2024, 1, 3)]),
        (date(2024, 1, 2), date(2024, 1, 2), [date(2024, 1, 2)], [date(2024, 1, 1), date(2024, 1, 3)]),
    ],
)
def test_a_historical_range_is_inclusive_and_open_where_nothing_is_said(
    start: date | None, end: date | None, inside: list[date], outside: list[date]
) -> None:
    chosen = historical(start, end)
    assert chosen.mode is Mode.HISTORICAL
    assert all(map(chosen.has_date, inside))
    assert not any(map(chosen.has_date, outside))


@pytest.mark.parametrize(
    ("words", "ranges"),
    [
        (["2024-01-02"], ["2024-01-02"]),
        (["2024-01-02", "2024-01-05"], ["2024-01-02", "2024-01-05"]),
        (["2024-01-02, 2024-01-05,"], ["2024-01-02", "2024-01-05"]),
        (["2024-01-02..2024-01-31,2024-02-29"], ["2024-01-02..2024-01-31", "2024-02-29"]),
        (["2024-01-02..2024-01-02", "2024-01-02"], ["2024-01-02"]),
    ],
)
def test_dates_are_named_one_by_one_or_as_ranges(words: list[str], ranges: list[str]) -> None:
    assert [str(span) for span in named_dates(words).ranges] == ranges


@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        [","],
        ["2024-02-30"],
        ["yesterday"],
        ["20240102"],
        ["2024-01-02T00:00"],
        ["2024-01-31..2024-01-02"],
        ["..2024-01-02"],
        ["2024-01-02.."],
        ["2024-01-02..2024-01-03..2024-01-04"],
    ],
    ids=str,
)
def test_words_that_are_no_dates_are_a_usage_error_that_names_the_option(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^--dates"):
        named_dates(words)


def test_a_reversed_historical_range_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="the start lies after the end"):
        historical(date(2024, 1, 3), date(2024, 1, 2))


def test_a_wrong_date_is_told_with_its_option_and_the_form() -> None:
    with pytest.raises(UsageError, match=r"--end-date: '02/01/2024' is not a date; write YYYY-MM-DD"):
        parse_date("02/01/2024", "--end-date")


def test_datasets_are_split_and_not_repeated() -> None:
    words = ["us_stocks_sip/*, */day_aggs_v1", "us_stocks_sip/*"]
    assert split_datasets(words) == ("us_stocks_sip/*", "*/day_aggs_v1")
    with pytest.raises(UsageError, match=r"^--dataset: 'us_stocks_sip' is not a dataset"):
        split_datasets(["us_stocks_sip"])


@pytest.mark.parametrize("words", [[""], [","], [" ", ""]])
def test_an_option_that_names_no_dataset_is_never_every_dataset(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--dataset is empty"):
        split_datasets(words)


@pytest.mark.parametrize(
    ("patterns", "named"), [((), True), (("*/day_aggs_v1",), True), (("a/b", DAY_AGGS), True), (("a/*",), False)]
)
def test_no_dataset_named_is_every_dataset(patterns: tuple[str, ...], named: bool) -> None:
    assert Selection(Mode.EVERYTHING, patterns).has_dataset(DAY_AGGS) is named


@given(st.lists(SPANS, max_size=3), st.data())
def test_every_selected_file_lies_under_exactly_one_listed_prefix(spans: list[DateRange], data: st.DataObject) -> None:
    chosen = Selection(Mode.DATES, (), tuple(spans))
    span = data.draw(st.sampled_from(spans or [DateRange(date(2000, 1, 1), date(2010, 1, 1))]))
    day = span.first + timedelta(data.draw(st.integers(0, (span.last - span.first).days)))
    prefixes = chosen.prefixes(DAY_AGGS)
    assert sum(FileName(DAY_AGGS, day).key.startswith(prefix) for prefix in prefixes) == 1
    assert len(prefixes) <= MONTH_PREFIXES_MAX


@pytest.mark.parametrize(
    ("chosen", "prefixes"),
    [
        (EVERYTHING, ["a/b/"]),
        (historical(date(2003, 1, 1), None), ["a/b/"]),
        (named_dates(["2024-01-31"]), ["a/b/2024/01/"]),
        (named_dates(["2023-12-31..2024-01-01"]), ["a/b/2023/12/", "a/b/2024/01/"]),
        (named_dates(["2024-02-01", "2024-01-01..2024-01-31"]), ["a/b/2024/01/", "a/b/2024/02/"]),
    ],
)
def test_few_months_are_listed_month_by_month_and_many_as_the_dataset(chosen: Selection, prefixes: list[str]) -> None:
    assert chosen.prefixes("a/b") == prefixes


def test_two_years_of_months_are_still_listed_by_month() -> None:
    assert len(named_dates(["2022-01-01..2023-12-31"]).prefixes("a/b")) == 24
    assert named_dates(["2022-01-01..2024-01-01"]).prefixes("a/b") == ["a/b/"]
