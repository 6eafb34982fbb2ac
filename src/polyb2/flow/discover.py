"""From the source's listing into the queue.

Prefix by prefix, page by page: each listed file is compared with the ledger; what is new is first looked for in the bucket,
and adopted where it is proven equal; the rest is queued. A listing error is an error, never "no files". A survey comes first,
so that nothing is queued before the user agreed to its size; what it found is then queued without a second listing, unless
that is much or the user took time to agree.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import date

from polyb2.core.catalogue import suggestion
from polyb2.core.compare import Adoption, Change, adoption, compare, listed_equal
from polyb2.core.errors import UsageError
from polyb2.core.keys import is_pattern, matches, parse_key
from polyb2.core.parts import plan_parts
from polyb2.core.proof import Verification
from polyb2.core.records import ListedObject, Mirrored, Revision, StoredObject
from polyb2.core.selection import Selection
from polyb2.flow.mirror import Mirror
from polyb2.flow.readback import equals_source
from polyb2.flow.report import DatasetReport, Report, not_published
from polyb2.ledger.binding import DISCOVERED
from polyb2.ledger.coverage import ListedDays
from polyb2.ledger.listings import Discovered
from polyb2.remote.source import Source

log = logging.getLogger(__name__)
IGNORED_MAX = 1000
"""How many foreign keys are named."""
KEPT_FILES_MAX = 100_000
"""How many files a survey keeps (some 50 MB) so that they can be queued without a second listing."""


class Discovery:
    """One selection, listed and compared; :meth:`survey` counts, :meth:`queue` acts."""

    def __init__(self, mirror: Mirror, selection: Selection, *, only_known: bool = False) -> None:
        self._mirror = mirror
        self._selection = selection
        self._only_known = only_known
        self._datasets: list[str] = []
        self._surveyed: tuple[Report, list[_Findings]] | None = None

    async def survey(self) -> Report:
        """What :meth:`queue` would do; the ledger stays as it is.

        Raises:
            UsageError: a pattern names nothing that the source lists.
            RemoteError: a listing failed.
        """
        report = Report()
        kept: list[_Findings] = []
        room = KEPT_FILES_MAX
        async for findings in self._findings(report):
            room -= len(findings.files) + len(findings.gone)
            kept = [*kept, findings] if room >= 0 else []
        self._surveyed = (report, kept) if room >= 0 else None
        return report

    async def queue(self, on_queued: Callable[[], None] = lambda: None, *, relist: bool = False) -> Report:
        """Queue what the mirror lacks or has in an older revision; ``on_queued`` is called after each page.

        Args:
            on_queued: wakes the workers.
            relist: list again although a survey is at hand, because time has gone by since.
        """
        surveyed, self._surveyed = self._surveyed, None
        if surveyed is not None and not relist:
            report, kept = surveyed
            for findings in kept:
                await self._act(findings, report)
                on_queued()
        else:
            report = Report()
            async for findings in self._findings(report):
                await self._act(findings, report)
                on_queued()
        await self._mirror.ledger.remember(DISCOVERED, str(self._mirror.ledger.clock.wall_ms()))
        return report

    async def _findings(self, report: Report) -> AsyncIterator[_Findings]:
        """Page by page what there is to do, counted in ``report``."""
        self._datasets = self._datasets or await resolve_datasets(self._mirror.source, self._selection.datasets)
        dates: dict[str, set[date]] = {}
        for dataset in self._datasets:
            report.datasets[dataset] = DatasetReport(dataset)
            dates[dataset] = set()
            for prefix in self._selection.prefixes(dataset):
                began, listed = self._mirror.ledger.clock.utc(), set[date]()
                async for page in self._pages(prefix, report, listed):
                    yield await self._compare(page, report.datasets[dataset])
                month = prefix.removeprefix(dataset).strip("/").replace("/", "-")
                seen = ListedDays(dataset, month, frozenset(listed), began)
                yield _Findings(report.datasets[dataset], listed=seen)
                dates[dataset] |= {day for day in listed if self._selection.has_date(day)}
        report.not_published = not_published(self._selection, dates)

    async def _pages(self, prefix: str, report: Report, listed_days: set[date]) -> AsyncIterator[_Page]:
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
                self._sort_in(listed, page, report, listed_days)
            after = page.last
            page.ordered = ordered
            yield page
        # The stretch after the last listed key: what the ledger knows there is gone.
        yield _Page(bucket, after, prefix + "\U0010ffff", ordered=ordered)

    def _sort_in(self, listed: ListedObject, page: _Page, report: Report, listed_days: set[date]) -> None:
        name = parse_key(listed.key)
        if name is None or name.dataset not in report.datasets:
            if len(report.ignored) < IGNORED_MAX:
                report.ignored.append(listed.key)
            return
        page.keys.add(listed.key)
        listed_days.add(name.date)
        if self._selection.has_date(name.date):
            page.files.append(Discovered(name, listed))

    async def _compare(self, page: _Page, counts: DatasetReport) -> _Findings:
        known = await self._mirror.ledger.known_files([item.listed.key for item in page.files])
        found: list[Discovered] = []
        revised: list[str] = []
        for item in page.files:
            row = known.get(item.listed.key)
            if row is None and self._only_known:
                continue
            change = compare(row, item.listed)
            if change is Change.NEW and (adopted := await self._adopt(page.bucket, item.listed)) is not None:
                item = replace(item, adopted=adopted)  # noqa: PLW2901 - the same file
            counts.count(item, change, None if row is None else row.status, self._parts(item))
            if change is not Change.UNCHANGED:
                found.append(item)
            if change is Change.REVISED:
                revised.append(item.listed.key)
        return _Findings(counts, found, [key async for key in self._gone(page)], revised=revised)

    def _parts(self, item: Discovered) -> int:
        """In how many parts a file would be sent, as far as its size tells."""
        mirror = self._mirror
        return plan_parts(item.listed.size, streams=mirror.streams.total, wanted=mirror.part_bytes).count

    async def _act(self, findings: _Findings, report: Report) -> None:
        """Put one page's findings into the ledger."""
        for index, item in enumerate(findings.files):
            if item.adopted is None or item.adopted.verification != Verification.READBACK:
                continue
            if not await self._reads_back_equal(item.listed, item.adopted):
                findings.files[index] = replace(item, adopted=None)
                findings.counts.count_unadopted(item, self._parts(item))
        if findings.files:
            await self._mirror.ledger.record(findings.files, self._mirror.target.prefix)
        for key in findings.revised:
            self._mirror.on_revised(key)
        if findings.listed is not None:
            await self._mirror.ledger.note_listed(findings.listed)
        if findings.gone:
            report.gone += await self._mirror.ledger.mark_gone(findings.gone)

    async def _gone(self, page: _Page) -> AsyncIterator[str]:
        """Unfinished files of the ledger that lie within the page's stretch of keys and are not listed."""
        if not page.ordered:
            return
        async for key in self._mirror.ledger.unfinished_between(page.after, page.last):
            if key in page.keys:
                continue
            name = parse_key(key)
            if name is not None and self._selection.has_date(name.date):
                yield key

    async def _adopt(self, bucket: _Merge, listed: ListedObject) -> Mirrored | None:
        """What the bucket already holds of a file that is new to the ledger, if it is proven equal or says so of itself."""
        theirs = await bucket.find(listed.key)
        if theirs is None or theirs.size != listed.size:
            return None
        if listed_equal(listed, theirs):
            return Mirrored(theirs.etag, None, Verification.ETAG)
        stored = await self._mirror.target.head(self._mirror.target.prefix + listed.key)
        worth = adoption(listed.etag, listed.size, stored)
        if stored is None or worth is Adoption.NO:
            return None
        return Mirrored(stored.etag, stored.version_id, worth.value)

    async def _reads_back_equal(self, listed: ListedObject, adopted: Mirrored) -> bool:
        """Whether an object that was proven only after publishing has the source's bytes."""
        revision = Revision(1, listed.etag, listed.size, listed.last_modified_ms)
        stored = StoredObject(listed.size, adopted.etag, adopted.version_id)
        slot = await self._mirror.streams.for_part()
        try:
            return await equals_source(self._mirror, listed.key, revision, stored, slot)
        finally:
            slot.release()


@dataclass(frozen=True, slots=True)
class _Findings:
    """What there is to do about one page: files to record, files that are gone; already counted in ``counts``.

    After the last page of a prefix come the days that it showed. ``revised`` are the keys of files that were replaced.
    """

    counts: DatasetReport
    files: list[Discovered] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    revised: list[str] = field(default_factory=list)
    listed: ListedDays | None = None


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


async def resolve_datasets(source: Source, patterns: tuple[str, ...]) -> list[str]:
    """The datasets that the patterns name in the source's own listing.

    Raises:
        UsageError: a pattern matches no prefix and type there.
    """
    prefixes = await source.folders("")
    types: dict[str, list[str]] = {}
    found: list[str] = []
    for pattern in patterns or ("*/*",):
        head = pattern.split("/")[0]
        for prefix in prefixes:
            if matches(head, prefix) and prefix not in types:
                types[prefix] = await source.folders(f"{prefix}/")
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
