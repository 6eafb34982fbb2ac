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
END = "\U0010ffff"
"""Sorts after every key that begins with the text before it."""
SEGMENT_BYTES_MAX = 200
"""Of a dataset's prefix or type, so that the whole key has room in the target beside ``B2_KEY_PREFIX``."""
_SHOWN_MAX = 120


@dataclass(frozen=True, slots=True)
class FileName:
    """The contents of a key of the layout: its dataset and the date in its name."""

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
    """Tell if a glob of two segments matches the dataset, or is its exact name; ``*`` never crosses ``/``."""
    if pattern == dataset:  # the exact name may itself contain glob characters
        return True
    wanted, actual = pattern.split("/"), dataset.split("/")
    return len(wanted) == len(actual) and all(map(fnmatchcase, actual, wanted))


def is_segment(name: str) -> bool:
    """Tell if a name can be the prefix or the type of a dataset: nothing path-like, nothing unprintable."""
    fits = 0 < len(name.encode("utf-8", "replace")) <= SEGMENT_BYTES_MAX
    return fits and name not in {".", ".."} and "/" not in name and name.isprintable()


def short(name: str) -> str:
    """A foreign name made printable: escaped where necessary, and cut with its length where it is long."""
    shown = name[:_SHOWN_MAX]
    shown = shown if shown.isprintable() else ascii(shown)[1:-1]
    return shown if len(name) <= _SHOWN_MAX else f"{shown}... ({len(name)} characters)"


def check_pattern(pattern: str) -> str:
    """The pattern itself.

    Raises:
        ValueError: it is not two segments with one slash between them, or one of them is no name.
    """
    segments = pattern.split("/")
    if len(segments) != DATASET_SEGMENTS or not all(map(is_segment, segments)):
        raise ValueError(
            f"{short(pattern)!r} is not a dataset: write us_stocks_sip/day_aggs_v1 or a glob like us_stocks_sip/*"
        )
    return pattern
