"""The days on which a dataset should have a file, and the due time of each: a hint only, as the listing is the truth.

The vendor says that a day is complete at about 11:00 US Eastern of the next day. Stocks, options and indices follow the
New York Stock Exchange, futures the Chicago Mercantile Exchange, forex the working week, crypto every day. Files of Sundays,
which forex and futures may or may not have, are never expected.

The closed days of both exchanges come from the library ``holidays``: it knows their one-off closures too, is pure Python and
typed, and adds no dependency of its own. ``exchange_calendars`` and ``pandas_market_calendars`` would bring pandas,
for opening hours that polyb2 does not need.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
USUAL_HOUR = time(11)
"""The hour of the next day, US Eastern, by which the vendor says that a day is complete."""
_SATURDAY = 5


class Market(StrEnum):
    """The trading calendar that a dataset follows; the first two values are the library's names."""

    EXCHANGE = "NYSE"
    FUTURES = "CME"
    FOREX = "forex"
    CRYPTO = "crypto"


_MARKETS = {
    "us_stocks_sip": Market.EXCHANGE,
    "us_options_opra": Market.EXCHANGE,
    "us_indices": Market.EXCHANGE,
    "global_forex": Market.FOREX,
    "global_crypto": Market.CRYPTO,
}
_FOREX_CLOSED = {(1, 1): "New Year's Day", (12, 25): "Christmas Day"}


def market_of(dataset: str) -> Market | None:
    """The market whose calendar a dataset follows; None for an unknown one, for which no file is expected."""
    prefix = dataset.split("/", maxsplit=1)[0]
    return Market.FUTURES if prefix.startswith("us_futures_") else _MARKETS.get(prefix)


def closed(dataset: str, day: date) -> str | None:
    """The reason, in words, why no file is expected for a day; None where one is expected."""
    market = market_of(dataset)
    if market is None:
        return "no calendar is known for this dataset"
    if market is Market.CRYPTO:
        return None
    if day.weekday() >= _SATURDAY:
        return "weekend"
    if market is Market.FOREX:
        return _FOREX_CLOSED.get((day.month, day.day))
    return _holidays(market, day.year).get(day)


def due(day: date) -> datetime:
    """The usual hour by which the files of a day are listed, in UTC."""
    if day == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(day + timedelta(days=1), USUAL_HOUR, EASTERN).astimezone(UTC)


def next_due(now: datetime) -> datetime:
    """The next usual hour after ``now``, in UTC."""
    today = now.astimezone(EASTERN).date()
    return next(moment for moment in (due(today - timedelta(days=1)), due(today)) if moment > now)


@cache
def _holidays(market: Market, year: int) -> dict[date, str]:
    from holidays import financial_holidays  # noqa: PLC0415 - it takes a while, and most commands need no calendar

    return dict(financial_holidays(market, years=year))
