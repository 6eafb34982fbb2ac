"""The checks of both stores.

Of the source: keys, listing, and the plan's right to read it. Of the target: keys, each capability, and the rules of the
bucket; the canary tests the behaviour of the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.integrity import composite_parts, md5_form
from polyb2.core.records import ListedObject, Revision
from polyb2.core.units import format_size
from polyb2.doctor.canary import Canary
from polyb2.doctor.checks import FailedError, Notes
from polyb2.flow.inspect.entitlement import Readable, date_words, probe_dataset
from polyb2.remote.b2 import Target
from polyb2.remote.polygon import Source

UNFINISHED_DAYS = 7


async def examine_source(notes: Notes, source: Source, datasets: Sequence[str]) -> None:
    """Check which data the keys may read.

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
    """Probe a dataset; return those of its newest and its oldest file that may be read."""
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
        notes.passed("etags", f"{of_size} are composites, but their part size is not known; proven part by part")


async def examine_target(notes: Notes, target: Target) -> bool | None:
    """Check capabilities, behaviour and rules; True if the target's part ETags are MD5s, None if that is not known."""
    with suppress(FailedError):
        await _examine_bucket(notes, target)
    canary = Canary(notes, target)
    try:
        with suppress(FailedError):
            await canary.ask_to_delete()
            await canary.put()
        if not canary.may_delete:
            notes.skipped("put", "what cannot be deleted again is not stored")
        with suppress(FailedError):
            await canary.send_parts()
    finally:
        await canary.leavings.remove()
    with suppress(FailedError):
        await _examine_rules(notes, target)
    return canary.etags_are_md5s


async def _examine_bucket(notes: Notes, target: Target) -> None:
    with notes.checking("bucket"):
        try:
            await target.head_bucket()
        except RemoteError as error:
            if error.kind is not Kind.NOT_PERMITTED:
                raise
            words = "the key lacks listBuckets: HEAD of a missing object is answered 403, and polyb2 has to ask twice"
            notes.doubtful("bucket", words, error.advice)
        else:
            notes.passed("bucket", "listBuckets is there")


async def _examine_rules(notes: Notes, target: Target) -> None:
    try:
        _note_lifecycle(notes, await target.lifecycle_rules(), target.prefix)
    except RemoteError as error:
        notes.skipped("lifecycle", f"the bucket's rules could not be asked for: {error.message}")
    try:
        locked = await target.has_object_lock()
    except RemoteError as error:
        notes.skipped("lock", f"the bucket's object lock could not be asked for: {error.message}")
        return
    if locked:
        words = "new versions are locked by default: a version that fails its proof cannot be removed for that long"
        notes.doubtful(
            "lock", words, "turn the default retention off, or accept that such versions stay and are billed"
        )
    else:
        notes.passed("lock", "no default retention")


def _note_lifecycle(notes: Notes, rules: list[Mapping[str, Any]], prefix: str) -> None:
    active = [rule for rule in rules if rule.get("Status") == "Enabled" and _touches(rule, prefix)]
    if any("Expiration" in rule and "ExpiredObjectDeleteMarker" not in rule["Expiration"] for rule in active):
        words = "a lifecycle rule removes current files of the mirror after some days"
        notes.doubtful("lifecycle", words, "take that rule off the mirror's prefix, or verify will find files missing")
        return
    aborts = [int(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]) for rule in active
              if "AbortIncompleteMultipartUpload" in rule]  # fmt: skip
    if any(days < UNFINISHED_DAYS for days in aborts):
        words = f"a rule aborts unfinished uploads after {min(aborts)} days"
        notes.doubtful("lifecycle", words, f"{UNFINISHED_DAYS} days leave a large file the time that an outage takes")
    elif aborts:
        notes.passed("lifecycle", f"unfinished uploads are aborted after {min(aborts)} days")
    else:
        words = "no rule aborts unfinished uploads"
        notes.passed("lifecycle", words, f"one of {UNFINISHED_DAYS} days spares you a cleanup (docs/operations.md)")


def _touches(rule: Mapping[str, Any], prefix: str) -> bool:
    of_rule = str(rule.get("Prefix") or rule.get("Filter", {}).get("Prefix") or "")
    return of_rule.startswith(prefix) or prefix.startswith(of_rule)
