"""The days that exchanges are open, against what is known of particular ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.calendar import EASTERN, USUAL_HOUR, closed, due, market_of, next_due
from polyb2.core.catalogue import DATASETS

STOCKS, OPTIONS, INDICES = "us_stocks_sip/trades_v1", "us_options_opra/quotes_v1", "us_indices/values_v1"
FUTURES, FOREX, CRYPTO = "us_futures_cme/trades_v1", "global_forex/quotes_v1", "global_crypto/trades_v1"


@pytest.mark.parametrize(
    ("dataset", "day", "words"),
    [
        (STOCKS, "2024-01-02", None),
        (STOCKS, "2018-10-12", None),  # a trading Friday that the source lacks
        (OPTIONS, "2022-06-20", "Juneteenth"),  # a holiday with a file at the source
        (STOCKS, "2021-06-18", None),  # one year before that day became a holiday
        (INDICES, "2024-03-29", "Good Friday"),
        (STOCKS, "2012-10-29", "Hurricane Sandy"),
        (STOCKS, "2018-12-05", "Bush"),
        (STOCKS, "2021-12-31", None),  # a New Year's Day on a Saturday is not made up for
        (STOCKS, "2024-01-06", "weekend"),
        (STOCKS, "2024-01-15", "Martin Luther King"),
        (FUTURES, "2024-01-15", None),  # futures pause only
        (FUTURES, "2024-03-29", "Good Friday"),
        (FUTURES, "2024-12-25", "Christmas"),
        (FUTURES, "2024-01-07", "weekend"),
        (FOREX, "2024-01-15", None),
        (FOREX, "2024-03-29", None),
        (FOREX, "2024-01-01", "New Year"),
        (FOREX, "2024-12-25", "Christmas"),
        (FOREX, "2024-01-07", "weekend"),
        (CRYPTO, "2024-01-07", None),
        (CRYPTO, "2024-12-25", None),
        ("us_bonds/trades_v1", "2024-01-02", "no calendar"),
    ],
)
def test_a_day_is_closed_for_the_datasets_that_follow_its_market(dataset: str, day: str, words: str | None) -> None:
    found = closed(dataset, date.fromisoformat(day))
    assert found is None if words is None else words in str(found)


def test_every_documented_dataset_has_a_market() -> None:
    assert all(market_of(dataset) for dataset in DATASETS)


@pytest.mark.parametrize("dataset", [STOCKS, FUTURES, FOREX, CRYPTO])
@pytest.mark.parametrize("day", [date.min, date.max, date(1850, 7, 4)])
def test_days_beyond_any_calendar_are_answered(dataset: str, day: date) -> None:
    assert closed(dataset, day) in {None, "weekend", "New Year's Day"}
    assert due(day).tzinfo is UTC


@pytest.mark.parametrize(
    ("day", "moment"),
    [
        ("2024-01-02", "2024-01-03T16:00+00:00"),
        ("2024-07-02", "2024-07-03T15:00+00:00"),
        ("2024-03-09", "2024-03-10T15:00+00:00"),  # summer time begins that night
        ("2024-11-02", "2024-11-03T16:00+00:00"),
    ],
)
def test_a_day_is_due_at_eleven_eastern_of_the_next(day: str, moment: str) -> None:
    assert due(date.fromisoformat(day)) == datetime.fromisoformat(moment)


@given(st.integers(86_400, 4_102_444_800).map(lambda second: datetime.fromtimestamp(second, UTC)))
def test_the_next_usual_hour_is_the_first_after_now(now: datetime) -> None:
    found = next_due(now)
    assert now < found <= now + timedelta(hours=25)
    assert found.astimezone(EASTERN).time() == USUAL_HOUR
    # No usual hour lies between: the one before is not after now.
    assert due(found.astimezone(EASTERN).date() - timedelta(days=2)) <= now
