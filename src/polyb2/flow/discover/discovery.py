"""Discovery: from the source's listing into the queue.

Prefix by prefix, page by page: each listed file is compared with the ledger; what is new is first looked for in the bucket,
and adopted where it is proven equal; the rest is queued. A listing error is an error, never "no files". A survey comes first,
so that nothing is queued before the user agreed to its size; what it found is then queued without a second listing, unless
that is much or the user took time to agree.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from polyb2.core.compare import Adoption, Change, Plan, adoption, compare, listed_equal, plan_of
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.integrity import Verification
from polyb2.core.keys import END, FileName, parse_key
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.parts import bytes_to_send, plan_parts
from polyb2.core.records import ListedObject, Mirrored, Revision, StoredObject
from polyb2.core.selection import DateRange, Selection
from polyb2.flow.discover.findings import DatasetReport, Report, not_published
from polyb2.flow.discover.listed import ListingError, ListingFilter, bounded
from polyb2.flow.discover.resolve import resolve_datasets
from polyb2.flow.mirror import Mirror
from polyb2.flow.transfer.proof import equals_source
from polyb2.ledger.rows import DISCOVERED, Discovered, ListedDays

log = logging.getLogger(__name__)
KEPT_FILES_MAX = 20_000
"""Files that a survey keeps (some 10 MB) so that they can be queued without a second listing."""


class Discovery:
    """One selection, listed and compared; :meth:`survey` counts, :meth:`queue` acts."""

    def __init__(
        self,
        mirror: Mirror,
        selection: Selection,
        *,
        only_known: bool = False,
        since: Mapping[str, date] | None = None,
    ) -> None:
        """Take the selection to list.

        Args:
            mirror: the mirror whose ledger is filled.
            selection: of which files.
            only_known: ignore files that the ledger lacks.
            since: exceptions to ``only_known``: by dataset, the date from which new files are taken.
        """
        self._mirror = mirror
        self._selection = selection
        self._only_known = only_known
        self._since = since or {}
        self._datasets: list[str] = []
        self._refused: list[str] = []
        self._surveyed: tuple[Report, list[_Findings]] | None = None

    async def survey(self) -> Report:
        """Report the effect of :meth:`queue`, without changing the ledger.

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

    async def queue(
        self,
        on_queued: Callable[[], None] = lambda: None,
        *,
        relist: bool = False,
        agreed: Collection[Plan] = frozenset(Plan),
    ) -> Report:
        """Queue what the mirror lacks or has in an older revision; ``on_queued`` is called after each page.

        Args:
            on_queued: wakes the workers.
            relist: list again although a survey is at hand, because time has gone by since.
            agreed: the kinds of plan that may be queued; the rest is held.

        Raises:
            RemoteError: a listing failed; an unusable one is raised after the other datasets are done.
        """
        surveyed, self._surveyed = self._surveyed, None
        if surveyed is not None and not relist:
            report, kept = surveyed
            for findings in kept:
                await self._act(findings, report, agreed)
                on_queued()
        else:
            report = Report()
            async for findings in self._findings(report):
                await self._act(findings, report, agreed)
                on_queued()
        report.check()
        self._mirror.fence()
        await self._mirror.ledger.remember(DISCOVERED, str(self._mirror.ledger.clock.wall_ms()))
        return report

    async def _findings(self, report: Report) -> AsyncIterator[_Findings]:
        """The findings page by page, counted in ``report``; a dataset with an unusable listing does not stop the others."""
        if not self._datasets:
            self._datasets = await resolve_datasets(self._mirror.source, self._selection.datasets, self._refused)
        for name in self._refused:
            report.ignore(name, None)
        met: dict[str, set[DateRange]] = {}
        for dataset in self._datasets:
            report.datasets[dataset] = DatasetReport(dataset)
            met[dataset] = set()
            try:
                async for findings in self._of_dataset(dataset, report, met[dataset]):
                    yield findings
            except RemoteError as error:
                if not isinstance(error, ListingError) and error.kind is not Kind.BAD_ANSWER:
                    raise
                log.error("%s: left out: %s", dataset, error, extra=log_fields(LogEvent.DISCOVERY_FAILED))  # noqa: TRY400 - no bug of ours
                report.failed[dataset] = error
        report.not_published = not_published(self._selection, met)

    async def _of_dataset(self, dataset: str, report: Report, met: set[DateRange]) -> AsyncIterator[_Findings]:
        for prefix in self._selection.prefixes(dataset):
            began = self._mirror.ledger.clock.utc()
            accepted = ListingFilter(dataset, prefix, report.ignore)
            async for page in self._pages(prefix, accepted):
                yield await self._compare(page, report, report.datasets[dataset])
            month = prefix.removeprefix(dataset).strip("/").replace("/", "-")
            seen = ListedDays(dataset, month, frozenset(accepted.days), began)
            yield _Findings(report.datasets[dataset], listed=seen)
            met |= {span for span in self._selection.ranges if any(day in span for day in accepted.days)}

    async def _pages(self, prefix: str, accepted: ListingFilter) -> AsyncIterator[_Page]:
        """Listing pages of a prefix with the files of the selection, each beside the bucket's objects of the same keys."""
        bucket = _Merge(bounded(self._mirror.target.pages(prefix), Side.TARGET, prefix))
        after = prefix
        ordered = True
        async for objects in bounded(self._mirror.source.pages(prefix), Side.SOURCE, prefix):
            page = _Page(bucket, after, objects[-1].key if objects else after)
            previous = after
            for listed in objects:
                ordered = ordered and listed.key > previous
                previous = listed.key
                page.keys.add(listed.key)
                name = accepted.name_of(listed)
                if name is not None and self._selection.has_date(name.date):
                    page.files.append(Discovered(name, listed))
            after = page.last
            page.ordered = ordered
            yield page
        # The stretch after the last listed key: files of the ledger there are gone.
        yield _Page(bucket, after, prefix + END, ordered=ordered)

    async def _compare(self, page: _Page, report: Report, counts: DatasetReport) -> _Findings:
        keys = [item.listed.key for item in page.files]
        known, held = await self._mirror.ledger.known_files(keys), await self._mirror.ledger.held_of(keys)
        found: list[Discovered] = []
        left_out: set[str] = set()
        for item in page.files:
            row = known.get(item.listed.key)
            if row is None and not self._takes_new(item.name):
                left_out.add(item.listed.key)
                continue
            change = compare(row, item.listed)
            adopted = await self._adopt(page.bucket, item.listed) if change is Change.NEW else None
            is_held = held.get(item.listed.key) == (item.listed.etag, item.listed.size)
            plan = None if adopted else plan_of(change, held=is_held)
            item = replace(item, adopted=adopted, plan=plan)  # noqa: PLW2901 - the same file
            counts.count(item, change, None if row is None else row.status, self._parts(item))
            if plan is not None:
                report.planned[plan].add(bytes_to_send(item.listed.size))
            if change is not Change.UNCHANGED:
                found.append(item)
        planned = {item.listed.key for item in found if item.plan is not None}
        gone = [key async for key in self._gone(page)]
        return _Findings(counts, found, gone, [key async for key in self._no_longer_held(page, planned | left_out)])

    def _takes_new(self, name: FileName) -> bool:
        """Tell if a file that the ledger does not have is wanted."""
        since = self._since.get(name.dataset)
        return not self._only_known or (since is not None and name.date >= since)

    def _parts(self, item: Discovered) -> int:
        """The number of parts in which a file would be sent, as far as its size tells."""
        mirror = self._mirror
        return plan_parts(item.listed.size, streams=mirror.slots.total, wanted=mirror.part_bytes).count

    async def _act(self, findings: _Findings, report: Report, agreed: Collection[Plan]) -> None:
        """Put one page's findings into the ledger."""
        ledger = self._mirror.ledger
        await self._read_back_adopted(findings)
        self._mirror.fence()
        await self._queue_or_hold(findings, agreed)
        if findings.no_longer_held:
            await ledger.release_held(findings.no_longer_held)
        if findings.listed is not None:
            await ledger.note_listed(findings.listed)
        if findings.gone:
            report.gone += await ledger.mark_gone(findings.gone)

    async def _read_back_adopted(self, findings: _Findings) -> None:
        """Adopt files that were proven only after publishing if their bytes are the source's; the others are to be sent."""
        for index, item in enumerate(findings.files):
            if item.adopted is None or item.adopted.verification != Verification.READBACK:
                continue
            if not await self._reads_back_equal(item.listed, item.adopted):
                findings.files[index] = replace(item, adopted=None, plan=Plan.NEW)
                findings.counts.count_unadopted(item, self._parts(item))

    async def _queue_or_hold(self, findings: _Findings, agreed: Collection[Plan]) -> None:
        """Record the files that are agreed to, or that need no sending; hold the rest."""
        queued = [item for item in findings.files if item.plan is None or item.plan in agreed]
        held = [item for item in findings.files if item.plan is not None and item.plan not in agreed]
        if queued:
            await self._mirror.ledger.record(queued, self._mirror.target.prefix)
        if held:
            await self._mirror.ledger.hold(held)
        for item in held:
            findings.counts.count_held(item, self._parts(item))
        for item in queued:
            if item.plan in {Plan.REVISED, Plan.REVISED_HELD}:
                self._mirror.on_revised(item.listed.key)

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

    async def _no_longer_held(self, page: _Page, planned: set[str]) -> AsyncIterator[str]:
        """Keys of the page that an earlier discovery held, and that are gone or now as the mirror has them."""
        if not page.ordered:
            return
        async for key in self._mirror.ledger.held_between(page.after, page.last):
            name = parse_key(key)
            if key not in planned and name is not None and self._selection.has_date(name.date):
                yield key

    async def _adopt(self, bucket: _Merge, listed: ListedObject) -> Mirrored | None:
        """The bucket's copy of a file that is new to the ledger, if it is proven equal or its metadata says so."""
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
        """Tell if an object that was proven only after publishing has the source's bytes."""
        revision = Revision(1, listed.etag, listed.size, listed.last_modified_ms)
        stored = StoredObject(listed.size, adopted.etag, adopted.version_id)
        slot = await self._mirror.slots.for_part()
        try:
            return await equals_source(self._mirror, slot, listed.key, revision, stored)
        finally:
            slot.release()


@dataclass(frozen=True, slots=True)
class _Findings:
    """The findings of one page: files to record, files that are gone; already counted in ``counts``.

    After the last page of a prefix come the days that it showed. ``no_longer_held`` are keys that an earlier discovery held.
    """

    counts: DatasetReport
    files: list[Discovered] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    no_longer_held: list[str] = field(default_factory=list)
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
    """The bucket's listing of a prefix, read beside the source's; it is not requested before a new key needs it."""

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
