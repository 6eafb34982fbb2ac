"""The source: keys, listing, and what the plan lets them read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from polyb2.core.proof import composite_parts, md5_form
from polyb2.core.records import ListedObject, Revision
from polyb2.core.units import format_size
from polyb2.doctor.notes import FailedError, Notes
from polyb2.flow.inspect.entitlement import Readable, date_words, probe_dataset
from polyb2.remote.polygon import Source


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
            honoured = await source.guard.tried(lambda: source.honours_if_match(largest.key))
        notes.passed(
            "if_match", "is honoured" if honoured else "is ignored; the ETag of each answer is checked instead"
        )
    with suppress(FailedError):
        await _examine_etag(notes, source, largest)


async def _examine_dataset(notes: Notes, source: Source, dataset: str) -> list[ListedObject]:
    """Probe it; those of its newest and its oldest file that may be read."""
    with notes.checking(dataset):
        found = await probe_dataset(source, dataset)
    newest, oldest = found.newest, found.oldest
    if newest is None or oldest is None:
        notes.doubtful(dataset, "nothing is listed yet", "look again when the vendor has published a day")
        return []
    latest, first = date_words(newest), date_words(oldest)
    if found.readable is Readable.NONE:
        notes.failed(
            dataset,
            f"is listed, but {latest} may not be read: the dataset is not in the plan of these keys",
            "take it out of POLYB2_DATASETS, or change the plan; its files would become not_entitled",
        )
        return []
    if found.readable is Readable.RECENT:
        notes.doubtful(
            dataset,
            f"{latest} can be read, {first} cannot: it lies before the history that the plan includes",
            "such dates become not_entitled; choose later ones with --start-date",
        )
        return [newest]
    notes.passed(dataset, f"can be read from {first} to {latest} ({format_size(newest.size)})")
    return [newest, oldest]


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
