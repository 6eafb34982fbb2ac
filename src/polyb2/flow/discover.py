"""From the source's listing into the queue.

Prefix by prefix, page by page: each listed file is compared with the ledger; what is new is first looked for in the bucket,
and adopted where it is proven equal; the rest is queued. A listing error is an error, never "no files". The first pass of a
large selection only counts, so that nothing is queued before the user agreed to its size.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from polyb2.core.catalogue import suggestion
from polyb2.core.compare import Adoption, Change, adoption, compare, listed_equal
from polyb2.core.errors import UsageError
from polyb2.core.keys import is_pattern, matches, parse_key
from polyb2.core.proof import Verification
from polyb2.core.records import ListedObject, Mirrored, Revision
from polyb2.core.selection import DateRange, Mode, Selection
from polyb2.core.status import Status
from polyb2.flow.mirror import Mirror
from polyb2.flow.readback import equals_source
from polyb2.ledger.listings import Discovered

log = logging.getLogger(__name__)
IGNORED_MAX = 1000
"""How many foreign keys are named; all are counted."""


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


class Discovery:
    """One selection, listed and compared; :meth:`survey` counts, :meth:`queue` acts."""

    def __init__(self, mirror: Mirror, selection: Selection, *, only_known: bool = False) -> None:
        self._mirror = mirror
        self._selection = selection
        self._only_known = only_known
        self._datasets: list[str] = []

    async def survey(self) -> Report:
        """What :meth:`queue` would do; the ledger stays as it is.

        Raises:
            UsageError: a pattern names nothing that the source lists.
            RemoteError: a listing failed.
        """
        return await self._pass(act=False)

    async def queue(self, on_queued: Callable[[], None] = lambda: None) -> Report:
        """Queue what the mirror lacks or has in an older revision; ``on_queued`` is called after each page."""
        return await self._pass(act=True, on_queued=on_queued)

    async def _pass(self, *, act: bool, on_queued: Callable[[], None] = lambda: None) -> Report:
        report = Report()
        self._datasets = self._datasets or await resolve_datasets(self._mirror, self._selection.datasets)
        dates: dict[str, set[date]] = {}
        for dataset in self._datasets:
            report.datasets[dataset] = DatasetReport(dataset)
            dates[dataset] = set()
            for prefix in self._selection.prefixes(dataset):
                async for page in self._pages(prefix, report, dates[dataset]):
                    await self._take(page, report.datasets[dataset], report, act=act)
                    on_queued()
        report.not_published = not_published(self._selection, dates)
        return report

    async def _pages(self, prefix: str, report: Report, dates: set[date]) -> AsyncIterator[_Page]:
        """Listing pages of a prefix with the files of the selection, each beside the bucket's objects of the same keys."""
        bucket = _Merge(self._mirror.target.pages(prefix))
        after = prefix
        ordered = True
        async for objects in self._mirror.source.pages(prefix):
            page = _Page(bucket, after, objects[-1].key if objects else after)
            previous = after
            for listed in objects:
                ordered = ordered and listed.key > previous
                previous = listed.key
                self._sort_in(listed, page, report, dates)
            after = page.last
            page.ordered = ordered
            yield page
        # The stretch after the last listed key: what the ledger knows there is gone.
        yield _Page(bucket, after, prefix + "\U0010ffff", ordered=ordered)

    def _sort_in(self, listed: ListedObject, page: _Page, report: Report, dates: set[date]) -> None:
        name = parse_key(listed.key)
        if name is None or name.dataset not in report.datasets:
            if len(report.ignored) < IGNORED_MAX:
                report.ignored.append(listed.key)
            return
        page.keys.add(listed.key)
        if self._selection.has_date(name.date):
            dates.add(name.date)
            page.files.append(Discovered(name, listed))

    async def _take(self, page: _Page, counts: DatasetReport, report: Report, *, act: bool) -> None:
        ledger = self._mirror.ledger
        known = await ledger.known_files([item.listed.key for item in page.files])
        found: list[Discovered] = []
        for item in page.files:
            row = known.get(item.listed.key)
            if row is None and self._only_known:
                continue
            change = compare(row, item.listed)
            adopted = await self._adopt(page.bucket, item.listed, act=act) if change is Change.NEW else None
            _count(counts, change, item.listed, adopted)
            if change is not Change.UNCHANGED:
                found.append(Discovered(item.name, item.listed, adopted))
        gone = [key async for key in self._gone(page)]
        report.gone += len(gone)
        if act and found:
            await ledger.record(found, self._mirror.target.prefix)
        if act and gone:
            await ledger.mark_gone(gone)

    async def _gone(self, page: _Page) -> AsyncIterator[str]:
        """Unfinished files of the ledger that lie within the page's stretch of keys and are not listed."""
        if not page.ordered:
            return
        async for known in self._mirror.ledger.known_between(page.after, page.last):
            name = parse_key(known.key)
            if (
                name is not None
                and known.key not in page.keys
                and known.status not in {Status.COMPLETED, Status.PROCESSING, Status.PERMANENT_FAILURE}
                and self._selection.has_date(name.date)
            ):
                yield known.key

    async def _adopt(self, bucket: _Merge, listed: ListedObject, *, act: bool) -> Mirrored | None:
        """What the bucket already holds of a file that is new to the ledger, if it is proven equal."""
        theirs = await bucket.find(listed.key)
        if theirs is None or theirs.size != listed.size:
            return None
        if listed_equal(listed, theirs):
            return Mirrored(theirs.etag, None, Verification.ETAG)
        stored = await self._mirror.target.head(self._mirror.target.prefix + listed.key)
        worth = adoption(listed.etag, listed.size, stored)
        if stored is None or worth is Adoption.NO:
            return None
        if worth is Adoption.AFTER_READBACK and act:
            revision = Revision(1, listed.etag, listed.size, listed.last_modified_ms)
            slot = await self._mirror.streams.for_part()
            try:
                if not await equals_source(self._mirror, listed.key, revision, stored, slot):
                    return None
            finally:
                slot.release()
        return Mirrored(stored.etag, stored.version_id, worth.value)


@dataclass(slots=True)
class _Page:
    """A stretch of keys, ``after < key <= last``: the selection's files in it, and every key listed in it."""

    bucket: _Merge
    after: str
    last: str
    files: list[Discovered] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    ordered: bool = True


class _Merge:
    """The bucket's listing of a prefix, walked beside the source's; it is not begun before a new key asks for it."""

    def __init__(self, pages: AsyncIterator[list[ListedObject]]) -> None:
        self._pages = pages
        self._objects: dict[str, ListedObject] = {}
        self._last = ""
        self._ended = False

    async def find(self, key: str) -> ListedObject | None:
        while key > self._last and not self._ended:
            page = await anext(self._pages, None)
            if page is None:
                self._ended = True
            elif page:
                self._objects = {item.key: item for item in page}
                self._last = page[-1].key
        return self._objects.get(key)


def _count(counts: DatasetReport, change: Change, listed: ListedObject, adopted: Mirrored | None) -> None:
    counts.listed += 1
    if adopted is not None:
        counts.adopted += 1
    elif change in {Change.NEW, Change.REVISED, Change.RELISTED}:
        counts.queued += 1
        counts.revised += change is Change.REVISED
        counts.bytes_queued += listed.size
    else:
        counts.unchanged += 1


async def resolve_datasets(mirror: Mirror, patterns: tuple[str, ...]) -> list[str]:
    """The datasets that the patterns name in the source's own listing.

    Raises:
        UsageError: a pattern matches no prefix and type there.
    """
    prefixes = await mirror.source.folders("")
    types: dict[str, list[str]] = {}
    found: list[str] = []
    for pattern in patterns or ("*/*",):
        head = pattern.split("/")[0]
        for prefix in prefixes:
            if matches(head, prefix) and prefix not in types:
                types[prefix] = await mirror.source.folders(f"{prefix}/")
        listed = [f"{prefix}/{kind}" for prefix in types for kind in types[prefix]]
        named = [dataset for dataset in listed if dataset == pattern or matches(pattern, dataset)]
        if not named:
            known = listed or [f"{prefix}/..." for prefix in prefixes]
            raise UsageError(_unknown(pattern, known))
        found += named
    return list(dict.fromkeys(found))


def _unknown(pattern: str, known: list[str]) -> str:
    hint = "" if is_pattern(pattern) else suggestion(pattern, [name for name in known if not name.endswith("...")])
    return f"--dataset: the source lists no {pattern!r}{hint}; it has {', '.join(sorted(known)[:12])}"


def not_published(selection: Selection, dates: dict[str, set[date]]) -> list[str]:
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
