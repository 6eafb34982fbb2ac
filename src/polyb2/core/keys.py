"""The source's layout: ``{prefix}/{type}/{YYYY}/{MM}/{YYYY-MM-DD}.csv.gz``, one object a dataset and day.

Nothing path-like is ever taken from a key: a key is parsed or reported as foreign, and used unchanged.
Source: Polygon/Massive flat-files pages, 2026-11; the month folder is always there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

_LAYOUT = re.compile(r"(?P<dataset>[^/]+/[^/]+)/(?P<year>\d{4})/(?P<month>\d{2})/(?P<date>\d{4}-\d{2}-\d{2})\.csv\.gz")
DATASET_SEGMENTS = 2


@dataclass(frozen=True, slots=True)
class FileName:
    """What a key of the layout says: its dataset and the date in its name."""

    dataset: str
    date: date

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.date.year:04}/{self.date.month:02}/{self.date.isoformat()}.csv.gz"


def parse_key(key: str) -> FileName | None:
    """The key's dataset and date, or None for a key that is not of the layout."""
    match = _LAYOUT.fullmatch(key)
    if match is None or not match["date"].startswith(f"{match['year']}-{match['month']}-"):
        return None
    try:
        day = date.fromisoformat(match["date"])
    except ValueError:
        return None
    return FileName(match["dataset"], day)


def is_pattern(dataset: str) -> bool:
    return any(mark in dataset for mark in "*?[")


def matches(pattern: str, dataset: str) -> bool:
    """Whether a glob of two segments names the dataset; ``*`` never crosses ``/``."""
    wanted, actual = pattern.split("/"), dataset.split("/")
    return len(wanted) == len(actual) and all(map(fnmatchcase, actual, wanted))


def check_pattern(pattern: str) -> str:
    """The pattern itself.

    Raises:
        ValueError: it is not two segments with one slash between them, or one of them is no name.
    """
    segments = pattern.split("/")
    if len(segments) != DATASET_SEGMENTS or {"", ".", ".."} & set(segments) or not pattern.isprintable():
        raise ValueError(
            f"{pattern[:100]!r} is not a dataset: write us_stocks_sip/day_aggs_v1 or a glob like us_stocks_sip/*"
        )
    return pattern
