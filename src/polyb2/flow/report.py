"""What discovery found, by dataset and in all: the contract's ``discover --json`` and ``plan --json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from polyb2.core.compare import Change
from polyb2.core.selection import DateRange, Mode, Selection


@dataclass(slots=True)
class DatasetReport:
    """What discovery found for one dataset."""

    dataset: str
    listed: int = 0
    queued: int = 0
    revised: int = 0
    adopted: int = 0
    unchanged: int = 0
    bytes_queued: int = 0

    def count(self, change: Change, size: int, *, adopted: bool = False, listed: int = 1) -> None:
        """Count a file; ``listed`` is 0 where it was counted before as something else."""
        self.listed += listed
        if adopted:
            self.adopted += 1
        elif change in {Change.NEW, Change.REVISED, Change.RELISTED}:
            self.queued += 1
            self.revised += change is Change.REVISED
            self.bytes_queued += size
        else:
            self.unchanged += 1


@dataclass(slots=True)
class Report:
    """What discovery found, in all.

    Attributes:
        datasets: by dataset.
        not_published: dates asked for by name, or ranges, for which nothing is listed; with the dataset where only that
            one lacks them.
        ignored: keys that do not fit the layout, the first thousand.
        gone: files parked because they are listed no longer.
    """

    datasets: dict[str, DatasetReport] = field(default_factory=dict)
    not_published: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    gone: int = 0

    def total(self, name: str) -> int:
        return sum(getattr(report, name) for report in self.datasets.values())

    def as_json(self) -> dict[str, Any]:
        """The contract's ``discover --json`` and ``plan --json``."""
        names = ("listed", "queued", "revised", "adopted", "unchanged", "bytes_queued")
        return {
            **{name: self.total(name) for name in names},
            "not_published": self.not_published,
            "ignored": self.ignored,
            "datasets": [
                {"dataset": report.dataset, **{name: getattr(report, name) for name in names}}
                for report in self.datasets.values()
            ],
        }


def not_published(selection: Selection, dates: Mapping[str, set[date]]) -> list[str]:
    """Dates asked for by name, and ranges, for which nothing is listed, in all datasets or in one."""
    if selection.mode not in {Mode.DATES, Mode.HISTORICAL}:
        return []
    missing: list[str] = []
    for span in selection.ranges:
        lacking = [dataset for dataset, days in dates.items() if not any(day in span for day in days)]
        if lacking and len(lacking) == len(dates):
            missing.append(_span_words(span))
        else:
            missing += [f"{_span_words(span)} {dataset}" for dataset in lacking]
    return missing


def _span_words(span: DateRange) -> str:
    first = "" if span.first == date.min else span.first.isoformat()
    last = "" if span.last == date.max else span.last.isoformat()
    return first if first == last else f"{first}..{last}"
