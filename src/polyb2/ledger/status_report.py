"""The content of ``status`` at one moment: counts, work, failures, rate, and held files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from polyb2.core.status import WAITING, Status
from polyb2.core.units import format_size, iso_utc
from polyb2.ledger.rows import Shown

DATES_NAMED_MAX = 8
DATASETS_NAMED_MAX = 8
_UNDONE = WAITING | {Status.PROCESSING}


@dataclass(slots=True)
class Tally:
    """Files and bytes, in all and by status."""

    files: int = 0
    bytes: int = 0
    bytes_done: int = 0
    bytes_left: int = 0
    by_status: dict[Status, dict[str, int]] = field(
        default_factory=lambda: {status: {"files": 0, "bytes": 0} for status in Status}
    )

    def add(self, status: Status, files: int, size: int, done: int) -> None:
        self.files += files
        self.bytes += size
        self.bytes_done += done
        here = self.by_status[status]
        here["files"] += files
        here["bytes"] += size
        if status in _UNDONE:
            # A file in work whose newer revision is smaller may have done more than it has left.
            self.bytes_left += max(0, size - done)


@dataclass(frozen=True, slots=True)
class FileAtWork(Shown):
    """A file that a worker has claimed, of this process or another."""

    key: str
    size: int
    bytes_done: int
    attempt: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Failure(Shown):
    """A failure that still stands."""

    key: str
    status: str
    reason: str | None
    error_message: str | None
    failed_ms: int | None
    next_attempt_ms: int | None


@dataclass(frozen=True, slots=True)
class Runner(Shown):
    """A process at work, as of its last renewal; before the first one it has said nothing of its streams."""

    worker_id: str
    host: str
    version: str
    started_ms: int
    streams_in_use: int | None
    streams_allowed: int | None
    rate_bytes_per_s: float | None
    source_rps: float | None
    target_rps: float | None

    def as_json(self) -> dict[str, Any]:
        return {**Shown.as_json(self), "since": iso_utc(self.started_ms)}


@dataclass(frozen=True, slots=True)
class Held:
    """All held files: found by a watch and not queued without consent.

    Attributes:
        files: how many.
        bytes: of all.
        replaced: those that would replace a mirrored revision.
        dates: the first dates of their names, at most :data:`DATES_NAMED_MAX` and one more.
        last: the last date.
        datasets: whose they are, at most :data:`DATASETS_NAMED_MAX` and one more.
    """

    files: int = 0
    bytes: int = 0
    replaced: int = 0
    dates: tuple[str, ...] = ()
    last: str = ""
    datasets: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The held files and the reason, and after a semicolon the command that agrees to them."""
        replaced = f", {self.replaced} of them replaced at the source," if self.replaced else ""
        return (
            f"{self.files} files with {format_size(self.bytes)}{replaced} are not queued: they are more than "
            f"POLYB2_MAX_PLAN_BYTES allows unasked; to agree, run {self.command}"
        )

    @property
    def command(self) -> str:
        """The discovery that queues what is held."""
        words = ["polyb2 discover"]
        if len(self.dates) <= DATES_NAMED_MAX:
            words.append(f"--dates {','.join(self.dates)}")
        else:
            words.append(f"--historical --start-date {self.dates[0]} --end-date {self.last}")
        if len(self.datasets) <= DATASETS_NAMED_MAX:
            words.append(f"--dataset {','.join(self.datasets)}")
        return " ".join([*words, "--yes"])

    def as_json(self) -> dict[str, Any]:
        """The object ``held`` of ``status --json``."""
        return {"files": self.files, "bytes": self.bytes, "agree_with": self.command if self.files else None}


@dataclass(slots=True)
class StatusReport:
    """The counts of the ledger at one moment; bytes, bytes per second, seconds."""

    totals: Tally = field(default_factory=Tally)
    datasets: dict[str, Tally] = field(default_factory=dict)
    in_flight: list[FileAtWork] = field(default_factory=list)
    last_errors: list[Failure] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)
    rate_bytes_per_s: float | None = None
    held: Held = field(default_factory=Held)

    @property
    def bytes_left(self) -> int:
        return self.totals.bytes_left

    @property
    def eta_s(self) -> float | None:
        if not self.bytes_left:
            return 0.0 if self.totals.files else None
        return self.bytes_left / self.rate_bytes_per_s if self.rate_bytes_per_s else None

    def as_json(self) -> dict[str, Any]:
        """The object of ``status --json``."""
        return {
            "totals": {name: getattr(self.totals, name) for name in ("files", "bytes", "bytes_done")},
            "by_status": self.totals.by_status,
            "datasets": [
                {"dataset": dataset, **{name: getattr(tally, name) for name in _TALLIED}}
                for dataset, tally in self.datasets.items()
            ],
            "in_flight": [file.as_json() for file in self.in_flight],
            "rate_bytes_per_s": self.rate_bytes_per_s,
            "eta_s": self.eta_s,
            "last_errors": [failure.as_json() for failure in self.last_errors],
            "runners": [runner.as_json() for runner in self.runners],
            "held": self.held.as_json(),
        }


_TALLIED = ("files", "bytes", "bytes_done", "by_status")
