"""Ledger against source listing against bucket listing, side by side: the mirror's record against both stores.

Listings are enough for most; HEAD is sent only where an ETag differs from the recorded one. ``deep`` reads back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from polyb2.core.compare import Change
from polyb2.core.errors import Kind as ErrorKind
from polyb2.core.errors import RemoteError, Side
from polyb2.core.integrity import GzipCheck, md5_form
from polyb2.core.keys import END, is_segment, parse_key
from polyb2.core.parts import Part, single_part
from polyb2.core.records import KnownFile, ListedObject, Revision, StoredObject
from polyb2.core.selection import EVERYTHING, Selection
from polyb2.core.units import iso_utc
from polyb2.flow.discover.listed import Cursor, batches, in_order, in_turn, unusable
from polyb2.flow.discover.resolve import resolve_datasets
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.slots import Slot
from polyb2.flow.transfer.body import hash_stored
from polyb2.flow.transfer.proof import equals_source
from polyb2.ledger.rows import Discovered, Filter


class Kind(StrEnum):
    """The kinds of difference."""

    MISSING = "missing"
    SIZE = "size"
    ETAG = "etag"
    STALE = "stale"
    SOURCE_GONE = "source_gone"
    EXTRA = "extra"
    CONTENT = "content"


SENT_AGAIN = {Kind.MISSING, Kind.SIZE, Kind.ETAG, Kind.CONTENT}
REPAIRED = SENT_AGAIN | {Kind.STALE}
NO_LONGER_THERE = {ErrorKind.CHANGED, ErrorKind.NOT_FOUND, ErrorKind.FORBIDDEN}
"""Errors that mean that the source no longer provides a listed revision."""
KEPT_MAX = 1000
"""Differences that are kept for the message about them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        key: of the source.
        kind: the kind of difference.
        row: the ledger's row; None where there is none (``extra``).
        listed: the source's newer revision, if that is the difference (``stale``).
        is_held: a discovery saw that revision, and holds it until the plan is confirmed.
    """

    key: str
    kind: Kind
    row: KnownFile | None = None
    listed: ListedObject | None = None
    is_held: bool = False

    @property
    def listed_revision(self) -> int | None:
        """The number of the newer revision, if a discovery recorded it already."""
        row, listed = self.row, self.listed
        if row is None or listed is None or (row.etag, row.size) != (listed.etag, listed.size):
            return None
        return row.revision

    def as_json(self) -> dict[str, Any]:
        """The object of ``verify --json``, with the revisions that it is about."""
        shown: dict[str, Any] = {"key": self.key, "kind": self.kind}
        if self.row is not None:
            shown["mirrored"] = {
                "revision": self.row.mirrored_revision,
                "source_etag": self.row.mirrored_etag,
                "size": self.row.mirrored_size,
            }
        if self.listed is not None:
            shown["listed"] = {
                "revision": self.listed_revision,
                "source_etag": self.listed.etag,
                "size": self.listed.size,
                "source_last_modified": iso_utc(self.listed.last_modified_ms),
            }
        return shown


@dataclass(slots=True)
class Findings:
    """The result of a verification.

    Attributes:
        checked: files that the ledger records as mirrored.
        found: differences between ledger, source and bucket, in all.
        differences: the first of them, at most :data:`KEPT_MAX`; each is reported when it is found.
        damaged: files with a broken gzip stream that are nevertheless as the source sent them (``deep``), in all.
        damaged_at_source: the first of them, at most :data:`KEPT_MAX`.
        repaired: files that were queued again.
        is_repairable: ``--repair`` has something to queue; extra files, and files gone at the source, are left alone.
        mark: a digest of the differences that does not depend on their order.
    """

    checked: int = 0
    found: int = 0
    differences: list[Difference] = field(default_factory=list)
    damaged: int = 0
    damaged_at_source: list[str] = field(default_factory=list)
    repaired: int = 0
    is_repairable: bool = False
    mark: int = 0

    def add(self, difference: Difference) -> None:
        self.found += 1
        self.is_repairable = self.is_repairable or difference.kind in REPAIRED
        self.mark ^= int.from_bytes(sha256(f"{difference.kind} {difference.key}".encode()).digest()[:8])
        if len(self.differences) < KEPT_MAX:
            self.differences.append(difference)

    def add_damaged(self, key: str) -> None:
        self.damaged += 1
        if len(self.damaged_at_source) < KEPT_MAX:
            self.damaged_at_source.append(key)

    def rest_as_json(self) -> dict[str, Any]:
        """The object of ``verify --json`` without the differences, which are reported one by one."""
        damaged = {"damaged_at_source": self.damaged_at_source, "damaged_at_source_total": self.damaged}
        return {"checked": self.checked, **damaged, "repaired": self.repaired}


@dataclass(frozen=True, slots=True)
class _Seen:
    """The listings' entries of a key; without ``row`` the ledger does not record it as mirrored."""

    differences: list[Difference]
    row: KnownFile | None = None
    listed: ListedObject | None = None


Tell = Callable[[Difference], object]


async def verify(
    mirror: Mirror,
    selection: Selection,
    *,
    deep: bool = False,
    mend: bool = False,
    tell: Tell = lambda _difference: None,
) -> Findings:
    """Compare the ledger with both listings, prefix by prefix.

    Args:
        mirror: the mirror.
        selection: of which files.
        deep: read every object back.
        mend: queue the differences.
        tell: called with each difference, once both listings of its prefix went to their ends (but see ``in_order``).

    Raises:
        RemoteError: a listing failed: nothing is concluded from part of one.
        UsageError: a pattern matches nothing that the source lists.
    """
    findings = Findings()
    for dataset in await _datasets(mirror, selection):
        for prefix in selection.prefixes(dataset):
            async with aclosing(_of_prefix(mirror, selection, (dataset, prefix), findings, deep=deep)) as found:
                async for some in batches(found, KEPT_MAX):
                    differences = await _with_held(mirror, some)
                    if mend:
                        findings.repaired += await _repair(mirror, differences)
                    for difference in differences:
                        findings.add(difference)
                        tell(difference)
    return findings


async def _datasets(mirror: Mirror, selection: Selection) -> list[str]:
    """The datasets of the selection that the ledger or the bucket has."""
    if selection.datasets:
        await resolve_datasets(mirror.source, selection.datasets)
    found = set(await mirror.ledger.datasets())
    for prefix in set(await mirror.source.folders("")) & set(await mirror.target.folders("")):
        found |= {f"{prefix}/{kind}" for kind in await mirror.target.folders(f"{prefix}/")}
    sound = (dataset for dataset in found if all(map(is_segment, dataset.split("/"))))
    return sorted(dataset for dataset in sound if selection.has_dataset(dataset))


async def _repair(mirror: Mirror, differences: Sequence[Difference]) -> int:
    """Queue lost or wrong objects to be sent again, and stale ones in their newest revision; return the number."""
    again = {item.key for item in differences if item.kind in SENT_AGAIN}
    repaired = 0
    if again:
        repaired += await mirror.ledger.requeue(EVERYTHING, Filter(keys=frozenset(again)), disown=True)
    stale = [item.listed for item in differences if item.kind is Kind.STALE and item.listed]
    found = [Discovered(name, listed) for listed in stale if (name := parse_key(listed.key)) and not unusable(listed)]
    if found:
        changes = await mirror.ledger.record(found, mirror.target.prefix)
        repaired += changes[Change.REVISED]
    return repaired


async def _of_prefix(
    mirror: Mirror, selection: Selection, place: tuple[str, str], findings: Findings, *, deep: bool
) -> AsyncGenerator[Difference]:
    """The differences of a dataset's prefix, in the order of their keys; ``deep`` reads several files back at once."""
    async with aclosing(_seen_in(mirror, selection, place, findings)) as seen:
        if not deep:
            async for one in seen:
                for difference in one.differences:
                    yield difference
            return
        jobs = (_deepened(mirror, one, findings) async for one in seen)
        async with aclosing(in_turn(jobs, mirror.slots.total)) as deepened:
            async for differences in deepened:
                for difference in differences:
                    yield difference


async def _deepened(mirror: Mirror, seen: _Seen, findings: Findings) -> list[Difference]:
    if seen.row is None or any(item.kind in SENT_AGAIN for item in seen.differences):
        return seen.differences
    return [*seen.differences, *await _read_back(mirror, seen.row, seen.listed, findings)]


async def _seen_in(
    mirror: Mirror, selection: Selection, place: tuple[str, str], findings: Findings
) -> AsyncGenerator[_Seen]:
    """Read a prefix's rows and both its listings side by side."""
    dataset, prefix = place

    def has(listed: ListedObject) -> bool:
        name = parse_key(listed.key)
        return name is not None and name.dataset == dataset and selection.has_date(name.date)

    source = await Cursor.begin(in_order(mirror.source.pages, Side.SOURCE, prefix, has))
    bucket = await Cursor.begin(in_order(mirror.target.pages, Side.TARGET, prefix, has))
    async for row in mirror.ledger.known_between(prefix, prefix + END):
        async for extra in bucket.before(row.key):
            yield _Seen([Difference(extra.key, Kind.EXTRA)])
        listed, stored, name = await source.at(row.key), await bucket.at(row.key), parse_key(row.key)
        if name is None or row.mirrored_revision is None or not selection.has_date(name.date):
            continue
        findings.checked += 1
        yield _Seen([item async for item in _compare(mirror, row, listed, stored)], row, listed)
    async for extra in bucket.before(prefix + END):
        yield _Seen([Difference(extra.key, Kind.EXTRA)])


async def _with_held(mirror: Mirror, differences: list[Difference]) -> list[Difference]:
    """The differences, each marked if it waits for confirmation."""
    listed = {item.key: item.listed for item in differences if item.kind is Kind.STALE and item.listed}
    held = await mirror.ledger.held_of(list(listed)) if listed else {}
    waiting = {key for key, item in listed.items() if held.get(key) == (item.etag, item.size)}
    return [replace(item, is_held=item.key in waiting and item.kind is Kind.STALE) for item in differences]


async def _compare(
    mirror: Mirror, row: KnownFile, listed: ListedObject | None, stored: ListedObject | None
) -> AsyncIterator[Difference]:
    if listed is None:
        yield Difference(row.key, Kind.SOURCE_GONE, row)
    elif (listed.etag, listed.size) != (row.mirrored_etag, row.mirrored_size):
        yield Difference(row.key, Kind.STALE, row, listed)
    if stored is None:
        yield Difference(row.key, Kind.MISSING, row)
    elif stored.size != row.mirrored_size:
        yield Difference(row.key, Kind.SIZE, row)
    elif stored.etag != row.dest_etag and not await _is_right_after_all(mirror, row):
        yield Difference(row.key, Kind.ETAG, row)


async def _is_right_after_all(mirror: Mirror, row: KnownFile) -> bool:
    """Ask HEAD, as listings of some stores show other ETags: its ETag decides, and metadata alone proves nothing."""
    stored = await mirror.target.head(mirror.target.prefix + row.key)
    return stored is not None and stored.etag in {row.dest_etag, row.mirrored_etag}


async def _read_back(
    mirror: Mirror, row: KnownFile, listed: ListedObject | None, findings: Findings
) -> list[Difference]:
    """Read the object back: compared with the source if it has that revision, else with checksums, else as gzip."""
    stored = await mirror.target.head(mirror.target.prefix + row.key)
    gzip = GzipCheck()
    slot = await mirror.slots.for_part()
    try:
        proven = stored is not None and await _is_proven(mirror, row, listed, stored, gzip, slot)
    finally:
        slot.release()
    if proven is False or (proven is None and gzip.is_broken):
        return [Difference(row.key, Kind.CONTENT, row)]
    if gzip.is_broken:
        findings.add_damaged(row.key)
    return []


async def _is_proven(
    mirror: Mirror, row: KnownFile, listed: ListedObject | None, stored: StoredObject, gzip: GzipCheck, slot: Slot
) -> bool | None:
    """Tell if the object's bytes are those of its revision; None if nothing is left to compare them with."""
    size, etag = row.mirrored_size or 0, row.mirrored_etag or ""
    if listed is not None and (listed.etag, listed.size) == (etag, size):
        revision = Revision(row.mirrored_revision or 1, etag, size, listed.last_modified_ms)
        fed = gzip.copy()
        try:
            proven = await equals_source(mirror, slot, row.key, revision, stored, fed)
        except RemoteError as error:
            # Replaced, removed or locked since it was listed: a long verify goes on, with the recorded checksums.
            if error.side is not Side.SOURCE or error.kind not in NO_LONGER_THERE:
                raise
        else:
            gzip.become(fed)
            return proven
    recorded = await _recorded(mirror, row)
    dest_key = mirror.target.prefix + row.key
    for part, expected in recorded or [(single_part(size), set())]:
        md5 = await hash_stored(mirror, slot, dest_key, stored.version_id, part, gzip)
        if expected and md5 not in expected:
            return False
    return True if recorded else None


async def _recorded(mirror: Mirror, row: KnownFile) -> list[tuple[Part, set[str]]]:
    """Ranges of a mirrored file with the MD5s on record for them; none if its proof left none."""
    receipts = await mirror.ledger.published_parts(row.file_id)
    if receipts:
        found = [(receipt.part, {receipt.md5 or md5_form(receipt.etag)}) for receipt in receipts]
    else:
        found = [
            (single_part(row.mirrored_size or 0), {md5_form(row.mirrored_etag or ""), md5_form(row.dest_etag or "")})
        ]
    known = [(part, {md5 for md5 in expected if md5}) for part, expected in found]
    return [(part, expected) for part, expected in known if expected]
