"""The typed rows and records that the ledger hands out and takes in: times in epoch milliseconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from polyb2.core.compare import Plan
from polyb2.core.keys import FileName
from polyb2.core.records import ListedObject, Mirrored
from polyb2.core.selection import Selection
from polyb2.core.status import Status
from polyb2.core.units import iso_utc

TARGET_ETAGS = "target_part_etags"
"""A fact: ``opaque`` where an upload showed that the target's part ETags are not MD5s."""
DISCOVERED = "discovered_ms"
"""A fact: when a discovery last ended well."""


class Shown:
    """A row that is shown as JSON: its fields by name, and each time ``x_ms`` in ISO 8601 as ``x_at``."""

    __slots__: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        plain, times = _shown_as(self.__slots__)
        shown = {name: getattr(self, name) for name in plain}
        return shown | {at: iso_utc(getattr(self, name)) for name, at in times}


@cache
def _shown_as(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    plain = tuple(name for name in names if name != "file_id" and not name.endswith("_ms"))
    return plain, tuple((name, _time(name)) for name in names if name.endswith("_ms"))


def _time(name: str) -> str:
    bare = name.removesuffix("_ms").removesuffix("_at")
    return bare if bare == "source_last_modified" else f"{bare}_at"


@dataclass(frozen=True, slots=True)
class Binding:
    """The pair a ledger is about; its bytes mean nothing for another."""

    source_endpoint: str
    source_bucket: str
    target_endpoint: str
    target_bucket: str
    target_prefix: str


class Level(StrEnum):
    """``skip``: the check does not apply, or could not be made because an earlier one failed."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """A line of ``doctor``: its name (stable, for scripts), how it ended, what was found, and what to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


WHOLE = 1_000_000
"""All of the account's limits: shares are counted in millionths, as sums of fractions are not exact."""


@dataclass(frozen=True, slots=True)
class Share:
    """A live worker's share of the account's limits, in millionths.

    Attributes:
        granted: what it may use from now on.
        fair: what it gets once every other live worker was told that it is there.
    """

    granted: int
    fair: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A running process in the ledger: ``row`` is what claims name, ``worker_id`` what people read.

    ``share`` is the one that it begins with.
    """

    row: int
    worker_id: str
    share: Share = field(default=Share(WHOLE, WHOLE), compare=False)


@dataclass(frozen=True, slots=True)
class Round:
    """A round, as a worker sees it.

    Attributes:
        turn: how often it was taken.
        is_ours: this worker took it last.
        made_ms: when it was made; None while it is being made, and where it never was.
        wait_ms: until this worker may take it, 0 for now; None while another makes it.
        problem: why it went wrong when it was made last, in words.
    """

    turn: int
    is_ours: bool
    made_ms: int | None
    wait_ms: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class RoundClaim:
    """The right to make a round, and to say that it is made: a turn of a worker, for as long as its lease holds."""

    name: str
    turn: int
    worker: Worker


@dataclass(frozen=True, slots=True)
class Load:
    """Load of a process: streams, and its limit of requests a second to each side (None: no limit)."""

    streams_in_use: int = 0
    streams_allowed: int = 0
    source_rps: float | None = None
    target_rps: float | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The rest of the queue that a worker may wait for.

    Attributes:
        pending: something can be claimed at once.
        next_attempt_ms: when the next failed file is due, None where none waits.
        held: rows in the hands of other workers, live or dead.
    """

    pending: bool
    next_attempt_ms: int | None
    held: int

    @property
    def is_empty(self) -> bool:
        return not self.pending and self.next_attempt_ms is None and not self.held


@dataclass(frozen=True, slots=True)
class Discovered:
    """A listed file of the layout.

    Attributes:
        name: what its key says.
        listed: how it is listed.
        adopted: what the target already holds of it if it is new to the ledger.
        plan: what it adds to the plan; None for one that is not to be sent.
    """

    name: FileName
    listed: ListedObject
    adopted: Mirrored | None = None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class ListedDays:
    """Result of one listing.

    Attributes:
        dataset: whose.
        month: ``2024-01``, or empty for the dataset as a whole.
        days: the dates of all files listed, chosen or not.
        began: when the listing began: what came later may not be in it.
    """

    dataset: str
    month: str
    days: frozenset[date]
    began: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter of the rows that a command selects; empty parts select all."""

    statuses: frozenset[Status] = frozenset()
    keys: frozenset[str] = frozenset()

    def takes(self, file: FileRow, selection: Selection) -> bool:
        """True for a file that the filter and the selection take."""
        return (
            (not self.statuses or file.status in self.statuses)
            and (not self.keys or file.key in self.keys)
            and selection.has_dataset(file.dataset)
            and selection.has_date(date.fromisoformat(file.date))
        )


@dataclass(frozen=True, slots=True)
class FileRow(Shown):
    """A row of ``files``: the ``file_columns`` of common.sql."""

    file_id: int
    key: str
    dataset: str
    date: str
    status: str
    reason: str | None
    size: int
    source_etag: str
    source_last_modified_ms: int
    dest_key: str
    dest_etag: str | None
    dest_version_id: str | None
    revision: int
    mirrored_revision: int | None
    mirrored_source_etag: str | None
    attempt: int
    retry_count: int
    worker_id: str | None
    bytes_done: int
    parts_total: int | None
    parts_done: int
    verification: str | None
    error_message: str | None
    discovered_at_ms: int
    started_at_ms: int | None
    completed_at_ms: int | None
    next_attempt_ms: int | None


@dataclass(frozen=True, slots=True)
class RevisionRow(Shown):
    """A revision that was seen of a file, and what the target got of it."""

    revision: int
    source_etag: str
    size: int
    source_last_modified_ms: int
    first_seen_ms: int
    mirrored_at_ms: int | None
    dest_etag: str | None
    dest_version_id: str | None
    verification: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow(Shown):
    """An attempt at a file, and how it ended."""

    attempt: int
    revision: int
    worker_id: str
    started_ms: int
    ended_ms: int | None
    outcome: str | None
    reason: str | None
    error_message: str | None

    @property
    def seconds(self) -> float | None:
        """The duration; None while it lasts."""
        return None if self.ended_ms is None else (self.ended_ms - self.started_ms) / 1000

    def as_json(self) -> dict[str, Any]:
        return {**Shown.as_json(self), "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class History:
    """The record of one key: its row, and oldest first every revision and the last fifty attempts."""

    file: FileRow
    revisions: Sequence[RevisionRow]
    attempts: Sequence[AttemptRow]

    def as_json(self) -> dict[str, Any]:
        """The object of ``files --json``, with ``revisions`` and ``attempts``."""
        return {
            **self.file.as_json(),
            "revisions": [row.as_json() for row in self.revisions],
            "attempts": [row.as_json() for row in self.attempts],
        }
