"""The findings of discovery, by dataset and in all, and the objects of ``discover --json`` and ``plan --json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

from polyb2.core.compare import Change, Plan
from polyb2.core.errors import RemoteError
from polyb2.core.estimate import Requests
from polyb2.core.keys import short
from polyb2.core.parts import bytes_to_send
from polyb2.core.selection import DateRange, Mode, Selection
from polyb2.core.status import PARKED, Status
from polyb2.ledger.rows import Discovered

KEYS_A_LISTING = 1000
IGNORED_MAX = 1000
"""Keys that are named of those left out."""


class Kind(StrEnum):
    """The state of a listed file in the mirror; ``new`` and ``revised`` are queued by discovery."""

    NEW = "new"
    REVISED = "revised"
    ADOPTED = "adopted"
    MIRRORED = "mirrored"
    WAITING = "waiting"
    PARKED = "parked"


_UNCHANGED = {Status.COMPLETED: Kind.MIRRORED, **dict.fromkeys(PARKED, Kind.PARKED)}


@dataclass(slots=True)
class Amount:
    files: int = 0
    bytes: int = 0

    def add(self, size: int, files: int = 1) -> None:
        self.files += files
        self.bytes += size


@dataclass(slots=True)
class DatasetReport:
    """The findings for one dataset; ``years`` are those of the files' dates, ``requests`` those for the queued files."""

    dataset: str
    listed: int = 0
    queued: int = 0
    revised: int = 0
    adopted: int = 0
    unchanged: int = 0
    bytes_queued: int = 0
    held: int = 0
    bytes_held: int = 0
    years: dict[int, dict[Kind, Amount]] = field(default_factory=dict)
    requests: Requests = field(default_factory=Requests)

    def count(self, item: Discovered, change: Change, status: Status | None, parts: int) -> None:
        """Count a listed file.

        Args:
            item: the file, and its adopted copy if any.
            change: its difference from the ledger's row.
            status: of the ledger's row; None where it has none.
            parts: the number of parts in which it would be sent.
        """
        self.listed += 1
        self._add(item, _kind(change, status, adopted=item.adopted is not None), parts)

    def count_unadopted(self, item: Discovered, parts: int) -> None:
        """Move a file from the adopted ones to those that are sent after all."""
        self.adopted -= 1
        self.years[item.name.date.year][Kind.ADOPTED].add(-bytes_to_send(item.listed.size), -1)
        self._add(item, Kind.NEW, parts)

    def count_held(self, item: Discovered, parts: int) -> None:
        """Move a file from the queued ones to those that are held."""
        revised = item.plan is Plan.REVISED or item.plan is Plan.REVISED_HELD
        self.years[item.name.date.year][Kind.REVISED if revised else Kind.NEW].add(-bytes_to_send(item.listed.size), -1)
        self.queued -= 1
        self.revised -= revised
        self.bytes_queued -= bytes_to_send(item.listed.size)
        self._add_requests(parts, -1)
        self.held += 1
        self.bytes_held += bytes_to_send(item.listed.size)

    def _add(self, item: Discovered, kind: Kind, parts: int) -> None:
        size, year = bytes_to_send(item.listed.size), item.name.date.year
        if year not in self.years:
            self.years[year] = {kind: Amount() for kind in Kind}
        self.years[year][kind].add(size)
        self.adopted += kind is Kind.ADOPTED
        if kind in {Kind.NEW, Kind.REVISED}:
            self.queued += 1
            self.revised += kind is Kind.REVISED
            self.bytes_queued += size
            self._add_requests(parts)
        elif kind is not Kind.ADOPTED:
            self.unchanged += 1

    def _add_requests(self, parts: int, files: int = 1) -> None:
        """Count the requests of a file: one PUT; or Create, the parts, Complete, and a HEAD that confirms it."""
        made = self.requests
        multipart = parts > 1
        class_a = made.class_a + files * (parts + 2 * multipart)
        self.requests = replace(made, class_a=class_a, class_b=made.class_b + files * multipart)

    def years_json(self) -> list[dict[str, Any]]:
        """Files and bytes by year and kind."""
        return [
            {"year": year, **{kind: asdict(kinds[kind]) for kind in Kind}} for year, kinds in sorted(self.years.items())
        ]


def _kind(change: Change, status: Status | None, *, adopted: bool) -> Kind:
    if adopted:
        return Kind.ADOPTED
    if change is Change.REVISED:
        return Kind.REVISED
    if change in {Change.NEW, Change.RELISTED} or status is None:
        return Kind.NEW
    return _UNCHANGED.get(status, Kind.WAITING)


@dataclass(slots=True)
class Report:
    """The findings of discovery, in all.

    Attributes:
        datasets: by dataset.
        not_published: dates asked for by name, or ranges, for which nothing is listed; with the dataset where only that
            one lacks them.
        ignored: keys that were left out: foreign to the layout, or with impossible listing fields; the first thousand.
        reasons: by key the reason, where a key is of the layout.
        failed: datasets with an unusable listing, and the error; the others were listed.
        gone: files that were parked because they are no longer listed.
        planned: files and bytes to be sent, by kind of plan.
    """

    datasets: dict[str, DatasetReport] = field(default_factory=dict)
    not_published: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    failed: dict[str, RemoteError] = field(default_factory=dict)
    gone: int = 0
    planned: dict[Plan, Amount] = field(default_factory=lambda: {plan: Amount() for plan in Plan})

    def ignore(self, key: str, why: str | None) -> None:
        """Note a key that is left out, and the reason where it is not obvious."""
        if len(self.ignored) >= IGNORED_MAX:
            return
        self.ignored.append(short(key))
        if why is not None:
            self.reasons[short(key)] = why

    def check(self) -> None:
        """Raise the error of the first dataset that failed."""
        for error in self.failed.values():
            raise error

    def total(self, name: str) -> int:
        return sum(getattr(report, name) for report in self.datasets.values())

    def amount(self, kind: Kind) -> Amount:
        """Files and bytes of a kind, in all."""
        found = [kinds[kind] for report in self.datasets.values() for kinds in report.years.values()]
        return Amount(sum(amount.files for amount in found), sum(amount.bytes for amount in found))

    def requests(self) -> Requests:
        """The requests to B2 of the plan; the bucket is listed for new files, a thousand keys a request."""
        made = [report.requests for report in self.datasets.values()]
        looked_for = (report.queued - report.revised + report.adopted for report in self.datasets.values())
        return Requests(
            class_a=sum(item.class_a for item in made),
            class_b=sum(item.class_b for item in made),
            class_c=sum(-(-files // KEYS_A_LISTING) for files in looked_for),
        )

    def as_json(self) -> dict[str, Any]:
        """The object of ``discover --json`` and ``plan --json``."""
        names = ("listed", "queued", "revised", "adopted", "unchanged", "bytes_queued")
        return {
            **{name: self.total(name) for name in names},
            "kinds": {kind: asdict(self.amount(kind)) for kind in Kind},
            "not_published": self.not_published,
            "ignored": self.ignored,
            "ignored_reasons": self.reasons,
            "datasets": [
                {
                    "dataset": report.dataset,
                    **{name: getattr(report, name) for name in names},
                    "years": report.years_json(),
                }
                for report in self.datasets.values()
            ],
        }


def not_published(selection: Selection, met: Mapping[str, set[DateRange]]) -> list[str]:
    """Dates asked for by name, and ranges, for which nothing is listed, in all datasets or in one.

    Args:
        selection: the selection that was asked for.
        met: by dataset the ranges that have a listed file.
    """
    if selection.mode not in {Mode.DATES, Mode.HISTORICAL}:
        return []
    missing: list[str] = []
    for span in selection.ranges:
        lacking = [dataset for dataset, spans in met.items() if span not in spans]
        if lacking and len(lacking) == len(met):
            missing.append(_span_words(span))
        else:
            missing += [f"{_span_words(span)} {dataset}" for dataset in lacking]
    return missing


def _span_words(span: DateRange) -> str:
    first = "" if span.first == date.min else span.first.isoformat()
    last = "" if span.last == date.max else span.last.isoformat()
    return first if first == last else f"{first}..{last}"
