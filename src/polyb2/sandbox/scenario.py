"""The sample: some datasets, some days around the New Year of 2024, one large file, a holiday, a late file, foreign keys."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

from polyb2.sandbox.objects import GeneratedGzip, csv_gz
from polyb2.sandbox.source import SourceServer

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 12)
HOLIDAY = date(2024, 1, 1)
LATE = ("us_stocks_sip/minute_aggs_v1", LAST)
LARGE = ("us_options_opra/quotes_v1", date(2024, 1, 2))
LARGE_BYTES = 256 << 20
LARGE_PART_BYTES = 16 << 20
FRIDAY = 4
_AGGREGATES = "ticker,volume,open,close,high,low,window_start,transactions"
ENTITLED = (
    "us_stocks_sip/day_aggs_v1",
    "us_stocks_sip/minute_aggs_v1",
    "us_options_opra/day_aggs_v1",
    "us_options_opra/quotes_v1",
    "global_crypto/day_aggs_v1",
)
NOT_ENTITLED = ("us_indices/day_aggs_v1", "global_forex/day_aggs_v1", "us_futures_cme/session_aggs_v1")
_ROWS = {"day_aggs_v1": 400, "minute_aggs_v1": 20_000, "session_aggs_v1": 100}


def key_of(dataset: str, day: date) -> str:
    return f"{dataset}/{day:%Y/%m}/{day.isoformat()}.csv.gz"


def flat_file(dataset: str, day: date, revision: int = 1) -> bytes:
    """A small flat file with plausible rows; another revision has other figures."""
    chance = random.Random(f"{dataset} {day} {revision}")  # noqa: S311 - a sample, not a secret
    start_ns = int(datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC).timestamp()) * 10**9
    rows = []
    for number in range(_ROWS[dataset.split("/")[1]]):
        price = chance.randrange(1_000, 90_000) / 100
        rows.append(
            f"{_ticker(dataset, number)},{chance.randrange(100, 900_000)},{price},{price + 0.1:.2f},{price + 0.4:.2f},"
            f"{price - 0.3:.2f},{start_ns + number % 390 * 60 * 10**9},{chance.randrange(1, 9_000)}"
        )
    return csv_gz(_AGGREGATES, rows)


def _ticker(dataset: str, number: int) -> str:
    if dataset.startswith("us_options_opra/"):
        return f"O:SPY240119C{(300 + number % 400) * 1000:08}"
    if dataset.startswith("global_crypto/"):
        return f"X:{['BTC', 'ETH', 'SOL', 'XRP'][number % 4]}USD"
    return ["AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "META", "TSLA", "BRK.B", "JPM", "XOM"][number % 10]


def fill(source: SourceServer, large_bytes: int = LARGE_BYTES) -> None:
    """Publish the sample; the late file is left for :func:`publish_late`."""
    source.entitled = lambda key: key.startswith(tuple(f"{dataset}/" for dataset in ENTITLED))
    for dataset in (*ENTITLED, *NOT_ENTITLED):
        if dataset == LARGE[0]:
            continue
        for day in _days(dataset):
            if (dataset, day) != LATE:
                _publish(source, dataset, day)
    if large_bytes:
        source.put(
            key_of(*LARGE),
            GeneratedGzip(large_bytes),
            part_bytes=LARGE_PART_BYTES,
            last_modified_s=_loaded_s(LARGE[1]),
        )
    source.put("us_stocks_sip/day_aggs_v1/README.txt", b"not a flat file\n")


def publish_late(source: SourceServer) -> str:
    """Publish the late file; its key."""
    _publish(source, *LATE)
    return key_of(*LATE)


def republish(source: SourceServer, dataset: str, day: date) -> str:
    """Replace a file by another revision; its key."""
    source.put(key_of(dataset, day), flat_file(dataset, day, revision=2))
    return key_of(dataset, day)


def _publish(source: SourceServer, dataset: str, day: date) -> None:
    source.put(key_of(dataset, day), flat_file(dataset, day), last_modified_s=_loaded_s(day))


def _loaded_s(day: date) -> float:
    """The modification time: files are loaded the morning after."""
    return datetime(day.year, day.month, day.day, 15, 12, 7, tzinfo=UTC).timestamp() + 86_400


def _days(dataset: str) -> list[date]:
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    if dataset.startswith("global_"):
        return days
    return [day for day in days if day.weekday() <= FRIDAY and day != HOLIDAY]
