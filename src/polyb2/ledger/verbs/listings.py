"""From a listing into the queue: new files, newer revisions, adopted files, files that are gone.

One listing page is one transaction, and every decision is made again inside it, on the rows as they are then. Files that a
watch finds and may not queue unasked are held: they change no row, as what the mirror has is still proven, and are forgotten
once they are queued, or when the source lists something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from polyb2.core.compare import GONE_WORDS, Change, Plan, compare
from polyb2.core.records import KnownFile, ListedObject, Mirrored
from polyb2.core.status import Status
from polyb2.ledger.rows import Discovered
from polyb2.ledger.status_report import DATASETS_NAMED_MAX, DATES_NAMED_MAX, Held
from polyb2.ledger.store import Row, Transaction
from polyb2.ledger.verbs.uploads import abandon_live

REPLACING = {Plan.REVISED, Plan.REVISED_HELD}


def known_files(tx: Transaction, keys: Sequence[str]) -> dict[str, KnownFile]:
    """The ledger's rows of these keys."""
    return {row["key"]: _known(row) for row in tx.rows("known_by_keys", keys=list(keys))}


def known_between(tx: Transaction, after: str, last: str, limit: int) -> list[KnownFile]:
    """Rows with ``after < key <= last`` in key order, at most ``limit``."""
    return [_known(row) for row in tx.rows("known_between", after=after, last=last, limit=limit)]


def unfinished_between(tx: Transaction, after: str, last: str, limit: int) -> list[str]:
    """Keys of unfinished files not in work with ``after < key <= last``, in their order, at most ``limit``."""
    return [row["key"] for row in tx.rows("unfinished_between", after=after, last=last, limit=limit)]


def record(tx: Transaction, found: Sequence[Discovered], dest_prefix: str) -> Counter[Change]:
    """Bring the rows of the listed files up to date; what changed, counted."""
    known = known_files(tx, [item.listed.key for item in found])
    changes: Counter[Change] = Counter()
    new: dict[str, Discovered] = {}
    for item in found:
        row = known.get(item.listed.key)
        change = compare(row, item.listed)
        changes[change] += 1
        if row is None:
            new[item.listed.key] = item
        elif change is Change.REVISED:
            revise(tx, row.file_id, item.listed)
        elif change is Change.RELISTED:
            tx.run("files_requeue", files=[row.file_id])
        if row is not None and change in {Change.TOUCHED, Change.RELISTED}:
            tx.run("file_touch", file_id=row.file_id, last_modified_ms=item.listed.last_modified_ms)
    _insert(tx, list(new.values()), dest_prefix)
    tx.run("held_delete", keys=[item.listed.key for item in found])
    return changes


def _insert(tx: Transaction, items: Sequence[Discovered], dest_prefix: str) -> None:
    """Insert files that are new to the ledger, in their first revision; those that the target holds already as mirrored."""
    if not items:
        return
    tx.run("files_insert", files=[_values(item) for item in items], dest_prefix=dest_prefix)
    adopted = {item.listed.key: item.adopted for item in items if item.adopted is not None}
    if adopted:
        done = [_facts(row, adopted[row.key]) for row in known_files(tx, list(adopted)).values()]
        tx.run("files_adopt", done=done)
        tx.run("revisions_mirrored", done=done)


def _values(item: Discovered) -> tuple[str, str, str, int, str, int]:
    """A listed file as the statements take it."""
    name, listed = item.name, item.listed
    return listed.key, name.dataset, name.date.isoformat(), listed.size, listed.etag, listed.last_modified_ms


def _facts(row: KnownFile, adopted: Mirrored) -> dict[str, object]:
    return {
        "file_id": row.file_id,
        "revision": row.revision,
        "dest_etag": adopted.etag,
        "dest_version_id": adopted.version_id,
        "verification": adopted.verification,
    }


def revise(tx: Transaction, file_id: int, listed: ListedObject) -> None:
    """Record a newer revision of a row: queued at once, or when the worker that holds the row ends."""
    facts = {"etag": listed.etag, "size": listed.size, "last_modified_ms": listed.last_modified_ms}
    row = tx.row("file_revise", file_id=file_id, **facts)
    if row is not None:
        tx.run("uploads_abandon", file_id=file_id, revision=row["revision"])
    else:
        row = tx.one("file_revise_held", file_id=file_id, **facts)
    tx.run("revision_insert", file_id=file_id, revision=row["revision"], **facts)


def mark_gone(tx: Transaction, keys: Sequence[str]) -> int:
    """Park unfinished files that the source lists no longer; their number."""
    gone = 0
    for known in known_files(tx, keys).values():
        if tx.run("file_gone", file_id=known.file_id, message=GONE_WORDS):
            abandon_live(tx, known.file_id)
            gone += 1
    return gone


def hold(tx: Transaction, found: Sequence[Discovered]) -> None:
    """Keep files that were found and are not queued."""
    tx.run("held_set", files=[(*_values(item)[:-1], int(item.plan in REPLACING)) for item in found])


def release_held(tx: Transaction, keys: Collection[str]) -> None:
    """Forget held files: they are queued now, or the source lists something else."""
    tx.run("held_delete", keys=list(keys))


def held_of(tx: Transaction, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
    """ETag and size of what is held of these keys."""
    return {row["key"]: (row["source_etag"], row["size"]) for row in tx.rows("held_of", keys=list(keys))}


def held_between(tx: Transaction, after: str, last: str, limit: int) -> list[str]:
    """Keys of held files with ``after < key <= last``, in their order, at most ``limit``."""
    return [row["key"] for row in tx.rows("held_between", after=after, last=last, limit=limit)]


def held(tx: Transaction) -> Held:
    """Everything that is held, summed up."""
    row = tx.one("held_summary")
    if not row["files"]:
        return Held()
    return Held(
        files=row["files"],
        bytes=int(row["bytes"]),
        replaced=row["replaced"],
        dates=tuple(row["date"] for row in tx.rows("held_dates", limit=DATES_NAMED_MAX + 1)),
        last=row["last"],
        datasets=tuple(row["dataset"] for row in tx.rows("held_datasets", limit=DATASETS_NAMED_MAX + 1)),
    )


def _known(row: Row) -> KnownFile:
    return KnownFile(
        file_id=row["id"],
        key=row["key"],
        status=Status(row["status"]),
        reason=row["reason"],
        size=row["size"],
        etag=row["source_etag"],
        last_modified_ms=row["source_last_modified_ms"],
        mirrored_revision=row["mirrored_revision"],
        mirrored_etag=row["mirrored_source_etag"],
        mirrored_size=row["mirrored_size"],
        dest_etag=row["dest_etag"],
        revision=row["revision"],
    )
