"""Which files the source of a scenario has: keys of the flat files' layout, and sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL_BYTES = 20_000
_DAY = timedelta(days=1)
_MONTH = {
    # Compressed sizes of a day as users see them; crypto has its weekends.
    "us_stocks_sip/day_aggs_v1": (300_000, 5),
    "us_stocks_sip/minute_aggs_v1": (28_000_000, 5),
    "us_options_opra/day_aggs_v1": (4_000_000, 5),
    "us_options_opra/trades_v1": (70_000_000, 5),
    "global_crypto/minute_aggs_v1": (2_000_000, 7),
}

Files = list[tuple[str, int]]


def large(scale: float) -> Files:
    """Four files of 1 GiB."""
    return [(key("us_stocks_sip/trades_v1", day), int(GIB * scale)) for day in _days(date(2024, 1, 2), 4)]


def one(size: int) -> Files:
    """One file."""
    return [(key("us_options_opra/quotes_v1", date(2024, 1, 2)), size)]


def small(scale: float) -> Files:
    """5,000 files of 20 KB: 1,000 days of five datasets."""
    days = list(_days(date(2020, 1, 1), max(1, int(1000 * scale))))
    return [(key(dataset, day), SMALL_BYTES) for dataset in _MONTH for day in days]


def many(count: int) -> Files:
    """So many tiny files in 33 datasets, as many as the source has."""
    days = list(_days(date(1990, 1, 1), -(-count // 33)))
    keys = [key(f"us_stocks_sip/set{number:02}_v1", day) for number in range(33) for day in days]
    return [(name, 100 + number % 900) for number, name in enumerate(keys[:count])]


def mixed(scale: float) -> Files:
    """January 2024 of five datasets, 2.3 GB, each size up to a tenth off what is usual."""
    chance = random.Random(2024)  # noqa: S311 - sizes, always the same
    days = list(_days(date(2024, 1, 1), 31))
    return [
        (key(dataset, day), max(1, int(usual * scale * chance.uniform(0.9, 1.1))))
        for dataset, (usual, days_a_week) in _MONTH.items()
        for day in days
        if day.weekday() < days_a_week
    ]


def _days(first: date, count: int) -> Iterator[date]:
    return (first + number * _DAY for number in range(count))


def key(dataset: str, day: date) -> str:
    return f"{dataset}/{day:%Y}/{day:%m}/{day.isoformat()}.csv.gz"
