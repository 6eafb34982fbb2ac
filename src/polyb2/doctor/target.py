"""The target: keys, each capability, and the rules of the bucket; the habits of the service are the canary's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from polyb2.core.errors import Kind, RemoteError
from polyb2.doctor.canary import Canary
from polyb2.doctor.notes import FailedError, Notes
from polyb2.remote.b2 import Target

UNFINISHED_DAYS = 7


async def examine_target(notes: Notes, target: Target) -> bool | None:
    """Check capabilities, habits and rules; whether the target's part ETags are MD5s, None if that did not come out."""
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
