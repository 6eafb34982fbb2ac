"""The source: keys, listing, and what the plan lets them read.

A 403 of a GET has three meanings there: the dataset is not in the plan, the date lies before the plan's history, or the file
is not published. Asked for are listed files only, the newest and the oldest of each dataset: that tells the first two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.keys import parse_key
from polyb2.core.parts import Part
from polyb2.core.proof import composite_parts, md5_form
from polyb2.core.records import ListedObject, Revision
from polyb2.core.units import format_size
from polyb2.doctor.notes import FailedError, Notes
from polyb2.remote.source import Source

AGAIN_S = 1.0
_ONE_BYTE = Part(1, 0, 1)


async def examine_source(notes: Notes, source: Source, datasets: Sequence[str]) -> None:
    """Check what the keys may read.

    Args:
        notes: where the checks go.
        source: the store.
        datasets: those that the settings choose, resolved against the listing.
    """
    readable: list[ListedObject] = []
    for dataset in datasets:
        with suppress(FailedError):
            readable += await _examine_dataset(notes, source, dataset)
    if not readable:
        for name in ("if_match", "etags"):
            notes.skipped(name, "no chosen dataset may be read")
        return
    largest = max(readable, key=lambda item: item.size)
    with suppress(FailedError):
        with notes.checking("if_match"):
            honoured = await source.honours_if_match(largest.key)
        notes.passed(
            "if_match", "is honoured" if honoured else "is ignored; the ETag of each answer is checked instead"
        )
        await _examine_etag(notes, source, largest)


async def _examine_dataset(notes: Notes, source: Source, dataset: str) -> list[ListedObject]:
    """Read a byte of its newest and of its oldest file; those that may be read."""
    with notes.checking(dataset):
        edges = [await _edge(source, dataset, last=last) for last in (True, False)]
    if edges[0] is None or edges[1] is None:
        notes.doubtful(dataset, "nothing is listed yet", "look again when the vendor has published a day")
        return []
    newest, oldest = edges[0], edges[1]
    latest, first = _date(newest), _date(oldest)
    with notes.checking(dataset):
        newest_may, oldest_may = await _may_read(source, newest), await _may_read(source, oldest)
    if not newest_may:
        notes.failed(
            dataset,
            f"is listed, but {latest} may not be read: the dataset is not in the plan of these keys",
            "take it out of POLYB2_DATASETS, or change the plan; its files would become not_entitled",
        )
        return []
    if not oldest_may:
        notes.doubtful(
            dataset,
            f"{latest} can be read, {first} cannot: it lies before the history that the plan includes",
            "such dates become not_entitled; choose later ones with --start-date",
        )
        return [newest]
    notes.passed(dataset, f"can be read from {first} to {latest} ({format_size(newest.size)})")
    return [newest, oldest]


async def _edge(source: Source, dataset: str, *, last: bool) -> ListedObject | None:
    """The newest or the oldest file of a dataset, by its folders, without listing it whole."""
    for year in sorted(await source.folders(f"{dataset}/"), reverse=last):
        for month in sorted(await source.folders(f"{dataset}/{year}/"), reverse=last):
            found = [
                item
                async for page in source.pages(f"{dataset}/{year}/{month}/")
                for item in page
                if parse_key(item.key)
            ]
            if found:
                return (max if last else min)(found, key=lambda item: item.key)
    return None


async def _may_read(source: Source, item: ListedObject) -> bool:
    """Whether the plan includes a file; a first 403 is asked for once more, as it was seen to come and go."""
    if await _reads_a_byte(source, item):
        return True
    await asyncio.sleep(AGAIN_S)
    return await _reads_a_byte(source, item)


async def _reads_a_byte(source: Source, item: ListedObject) -> bool:
    revision = Revision(1, item.etag, item.size, item.last_modified_ms)

    async def once() -> None:
        async with source.read(item.key, revision, _ONE_BYTE if item.size else None, fresh=True) as body:
            async for _ in body:
                pass

    try:
        await source.guard.tried(once)
    except RemoteError as error:
        if error.kind is Kind.FORBIDDEN:
            return False
        raise
    return True


async def _examine_etag(notes: Notes, source: Source, largest: ListedObject) -> None:
    parts = composite_parts(largest.etag)
    of_size = f"ETags of files like {largest.key} ({format_size(largest.size)})"
    if md5_form(largest.etag):
        notes.passed("etags", f"{of_size} have the form of an MD5")
        return
    if parts is None:
        notes.passed("etags", f"{of_size} have no known form; large files are proven part by part")
        return
    revision = Revision(1, largest.etag, largest.size, largest.last_modified_ms)
    with notes.checking("etags"):
        part_bytes = await source.own_part_bytes(largest.key, revision, parts) if parts > 1 else largest.size
    if part_bytes:
        notes.passed("etags", f"{of_size} are composites of parts of {format_size(part_bytes)}: proof without hashing")
    else:
        notes.passed("etags", f"{of_size} are composites, but their part size is not told; proven part by part")


def _date(item: ListedObject) -> str:
    name = parse_key(item.key)
    return name.date.isoformat() if name else item.key
