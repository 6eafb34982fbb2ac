"""A file's history as values: its row, every revision, every attempt, and what to do now; and the URL of its page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from urllib.parse import quote

from polyb2.core.keys import parse_key
from polyb2.core.status import Status
from polyb2.ledger import rows
from polyb2.web.failures import Remedy, remedy_of
from polyb2.web.signs import STATUS_SIGNS, Sign

_PROOFS = {
    "etag": "the source's own checksum",
    "parts": "the MD5 of every part",
    "readback": "read back from the bucket",
}
_UNTROUBLED = {Status.COMPLETED, Status.PENDING, Status.PROCESSING}


@dataclass(frozen=True, slots=True)
class History:
    """What the ledger has of a file, and what to say of it; ``done`` is the share of an upload under way."""

    record: rows.History
    sign: Sign
    remedy: Remedy | None
    in_bucket: str
    done: float | None
    proof: str | None


def history_of(record: rows.History) -> History:
    file = record.file
    is_untroubled = file.status in _UNTROUBLED and not file.error_message
    is_under_way = file.status != Status.COMPLETED and file.bytes_done and file.size
    return History(
        record=record,
        sign=STATUS_SIGNS[Status(file.status)],
        remedy=None if is_untroubled else remedy_of(file.key, file.status, file.reason),
        in_bucket=_in_bucket(file.mirrored_revision, file.revision),
        done=file.bytes_done / file.size if is_under_way else None,
        proof=_PROOFS.get(file.verification or ""),
    )


def _in_bucket(mirrored: int | None, newest: int) -> str:
    if mirrored is None:
        return "not yet"
    if mirrored == newest:
        return f"revision {mirrored}, the newest"
    return f"revision {mirrored}; revision {newest} is to be sent"


def file_url(key: str) -> str:
    """The URL of a file's history."""
    name = parse_key(key)
    return day_url(name.dataset, name.date) if name else f"/file?key={quote(key, safe='/')}"


def day_url(dataset: str, day: date) -> str:
    """The URL of the history of a dataset's file of a day."""
    return f"/file/{_quoted(dataset)}/{day.isoformat()}"


@lru_cache(maxsize=256)
def _quoted(dataset: str) -> str:
    # A calendar asks for the same dataset hundreds of times.
    return quote(dataset, safe="/")
