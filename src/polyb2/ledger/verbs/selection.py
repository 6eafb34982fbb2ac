"""The rows that a command is about, found by the index of the keys or by that of statuses and keys; put back, or taken out.

A selection is a few stretches of keys, as a key begins with its dataset and goes on with its date. No row outside them is
read, and within them none of another status. A page is one short transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from polyb2.core.keys import END, FileName
from polyb2.core.selection import DateRange, Selection
from polyb2.core.status import Status
from polyb2.ledger.rows import AttemptRow, FileRow, Filter, History, RevisionRow
from polyb2.ledger.store import Row, Transaction

LOOKUPS_MAX = 500
"""Stretches that one page looks into: with a status each, some milliseconds where they are all empty."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of keys, ``after < key <= last``."""

    after: str
    last: str


Stretches = tuple[Stretch, ...]
EVERYWHERE: Stretches = (Stretch("", END),)


def stretches(tx: Transaction, selection: Selection) -> Stretches:
    """The stretches of a selection, in the order of their keys."""
    if not selection.datasets and not selection.ranges:
        return EVERYWHERE
    datasets = [row["dataset"] for row in tx.rows("datasets") if selection.has_dataset(row["dataset"])]
    spans = list(_joined(selection.ranges)) or [DateRange(date.min, date.max)]
    found = [_stretch(dataset, span) for dataset in datasets for span in spans]
    return tuple(sorted(found, key=lambda stretch: stretch.after))


def files(
    tx: Transaction, left: Stretches, statuses: Collection[Status], limit: int
) -> tuple[list[FileRow], Stretches]:
    """The first rows of the stretches that are left, at most ``limit``, and what is left then; no status means any."""
    rows, left = _page(tx, "files", left, statuses, limit)
    return [FileRow(**row) for row in rows], left


def ids(tx: Transaction, left: Stretches, statuses: Collection[Status], limit: int) -> tuple[list[int], Stretches]:
    """As :func:`files`, their ids alone."""
    rows, left = _page(tx, "file_ids", left, statuses, limit)
    return [row["id"] for row in rows], left


def by_keys(tx: Transaction, keys: Sequence[str], chosen: Selection, wanted: Filter) -> list[FileRow]:
    """The rows of some keys that the selection and the filter take, in key order."""
    found = (FileRow(**row) for row in tx.rows("files_by_keys", keys=list(keys)))
    return sorted((file for file in found if wanted.takes(file, chosen)), key=lambda file: file.key)


def unknown(tx: Transaction, keys: Sequence[str]) -> list[str]:
    """Those of the keys that the ledger does not have."""
    known = {row["key"] for row in tx.rows("known_by_keys", keys=list(keys))}
    return [key for key in dict.fromkeys(keys) if key not in known]


def history(tx: Transaction, key: str) -> History | None:
    """The row of a key, its revisions and last attempts; None where the ledger has nothing."""
    found = tx.row("files_by_keys", keys=[key])
    if found is None:
        return None
    file = FileRow(**found)
    revisions = tx.rows("revisions_of", file_id=file.file_id)
    attempts = tx.rows("attempts_of", file_id=file.file_id)
    return History(file, [RevisionRow(**row) for row in revisions], [AttemptRow(**row) for row in attempts])


def requeue(tx: Transaction, ids: list[int], *, disown: bool = False) -> int:
    """Put rows back into the queue, uncharged; one that is there or in work is left alone."""
    moved = [row["id"] for row in tx.rows("files_requeue", files=ids)]
    if disown:
        tx.run("attempts_disown", files=moved)
    return len(moved)


def unqueue(tx: Transaction, ids: list[int]) -> int:
    """Take waiting rows out: new files leave the ledger, re-published ones are what the target holds again."""
    tx.run("uploads_abandon_waiting", files=ids)
    restored = [row["id"] for row in tx.rows("files_restore", files=ids)]
    tx.run("revisions_after", files=restored)
    return len(restored) + tx.run("files_delete", files=ids)


def _page(
    tx: Transaction, name: str, left: Stretches, statuses: Collection[Status], limit: int
) -> tuple[list[Row], Stretches]:
    rows: list[Row] = []
    for index, stretch in enumerate(left[:LOOKUPS_MAX]):
        room = limit - len(rows)
        found = _rows(tx, name, stretch, statuses, room)
        rows += found
        if len(found) == room:
            return rows, (Stretch(found[-1]["key"], stretch.last), *left[index + 1 :])
    return rows, left[LOOKUPS_MAX:]


def _rows(tx: Transaction, name: str, stretch: Stretch, statuses: Collection[Status], limit: int) -> Sequence[Row]:
    place = {"after": stretch.after, "last": stretch.last, "limit": limit}
    if not statuses:
        return tx.rows(f"{name}_page", **place)
    found = [row for status in statuses for row in tx.rows(f"{name}_of_status", status=status, **place)]
    return sorted(found, key=lambda row: str(row["key"]))[:limit]


def _joined(spans: Iterable[DateRange]) -> Iterator[DateRange]:
    """The ranges in their order, those that overlap as one, so that no row is met twice."""
    joined: DateRange | None = None
    for span in sorted(spans, key=lambda span: (span.first, span.last)):
        if joined is not None and span.first <= joined.last:
            joined = DateRange(joined.first, max(joined.last, span.last))
            continue
        if joined is not None:
            yield joined
        joined = span
    if joined is not None:
        yield joined


def _stretch(dataset: str, span: DateRange) -> Stretch:
    first, last = FileName(dataset, span.first).key, FileName(dataset, span.last).key
    return Stretch(first.removesuffix(".csv.gz"), last)
