"""What the ledger says to people: counts, rate, rows. Nothing here holds a transaction for long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from polyb2.clock import Moment
from polyb2.core.selection import Selection
from polyb2.core.status import WAITING, Status
from polyb2.core.units import iso_utc
from polyb2.ledger import holding
from polyb2.ledger.database import Row, Transaction
from polyb2.ledger.holding import Held

RATE_WINDOW_MS = 60_000
IN_FLIGHT_MAX = 1000
LAST_ERRORS_MAX = 5
_UNDONE = WAITING | {Status.PROCESSING}
_TIMES = ("discovered_at", "started_at", "completed_at", "next_attempt")


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

    def add(self, row: Row) -> None:
        self.files += row["files"]
        self.bytes += row["bytes"]
        self.bytes_done += row["bytes_done"]
        here = self.by_status[Status(row["status"])]
        here["files"] += row["files"]
        here["bytes"] += row["bytes"]
        if Status(row["status"]) in _UNDONE:
            # A file in work whose newer revision is smaller may have done more than it has left.
            self.bytes_left += max(0, row["bytes"] - row["bytes_done"])


@dataclass(slots=True)
class StatusReport:
    """The counts of the ledger at one moment; bytes, bytes per second, seconds."""

    totals: Tally = field(default_factory=Tally)
    datasets: dict[str, Tally] = field(default_factory=dict)
    in_flight: list[dict[str, Any]] = field(default_factory=list)
    last_errors: list[dict[str, Any]] = field(default_factory=list)
    runners: list[dict[str, Any]] = field(default_factory=list)
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
        """The contract's ``status --json``."""
        totals = self.totals
        return {
            "totals": {"files": totals.files, "bytes": totals.bytes, "bytes_done": totals.bytes_done},
            "by_status": totals.by_status,
            "datasets": [
                {
                    "dataset": dataset,
                    "files": tally.files,
                    "bytes": tally.bytes,
                    "bytes_done": tally.bytes_done,
                    "by_status": tally.by_status,
                }
                for dataset, tally in self.datasets.items()
            ],
            "in_flight": self.in_flight,
            "rate_bytes_per_s": self.rate_bytes_per_s,
            "eta_s": self.eta_s,
            "last_errors": self.last_errors,
            "runners": self.runners,
            "held": self.held.as_json(),
        }


def status(tx: Transaction, now: Moment) -> StatusReport:
    """Counts, in-flight files, rate and time left."""
    report = StatusReport()
    for row in tx.rows("counts"):
        report.totals.add(row)
        report.datasets.setdefault(row["dataset"], Tally()).add(row)
    report.in_flight = [dict(row) for row in tx.rows("in_flight", limit=IN_FLIGHT_MAX)]
    report.last_errors = last_errors(tx, LAST_ERRORS_MAX)
    report.runners = [_runner_json(row) for row in tx.rows("workers_live", **now.parameters)]
    report.rate_bytes_per_s = rate(tx, now)
    report.held = holding.summary(tx)
    return report


def rate(tx: Transaction, now: Moment) -> float | None:
    """Bytes of receipts of the last 60 s by the time elapsed, 60 s at most; None before the first receipt."""
    since_ms = now.wall_ms - RATE_WINDOW_MS
    recent = tx.row("throughput_recent", after_s=since_ms // 1000)
    if recent is None or not recent["seconds"]:
        return None
    start = tx.row("activity_start", since_ms=since_ms, **now.parameters)
    started_ms = start["started_ms"] if start is not None and start["started_ms"] is not None else since_ms
    elapsed_ms = max(1000, now.wall_ms - max(started_ms, since_ms))
    return float(recent["bytes"]) * 1000 / min(elapsed_ms, RATE_WINDOW_MS)


def last_errors(tx: Transaction, limit: int) -> list[dict[str, Any]]:
    """The newest failures that still stand."""
    return [_error_json(row) for row in tx.rows("last_errors", limit=limit)]


def _runner_json(row: Row) -> dict[str, Any]:
    names = ("worker_id", "streams_in_use", "streams_allowed", "source_rps", "target_rps")
    return {**{name: row[name] for name in names}, "started_at": iso_utc(row["started_ms"])}


def _error_json(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("key", "status", "reason", "error_message")}
    return {**shown, "failed_at": iso_utc(row["ended_ms"]), "next_attempt_at": iso_utc(row["next_attempt_ms"])}


def waiting_since(tx: Transaction) -> dict[str, int]:
    """Since when the oldest waiting file of each dataset waits, epoch milliseconds; none where nothing waits."""
    return {row["dataset"]: row["since_ms"] for row in tx.rows("waiting_since")}


def datasets(tx: Transaction) -> list[str]:
    return [row["dataset"] for row in tx.rows("datasets")]


def file_json(row: Row) -> dict[str, Any]:
    """The contract's object of ``files --json``."""
    shown: dict[str, Any] = {name: row[name] for name in row.keys() if name != "id" and not name.endswith("_ms")}  # noqa: SIM118
    shown["source_last_modified"] = iso_utc(row["source_last_modified_ms"])
    for name in _TIMES:
        shown[f"{name}_at" if name == "next_attempt" else name] = iso_utc(row[f"{name}_ms"])
    return shown


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows a command is about; empty parts leave nothing out."""

    statuses: frozenset[Status] = frozenset()
    keys: frozenset[str] = frozenset()

    def takes(self, row: Row) -> bool:
        return (not self.statuses or row["status"] in self.statuses) and (not self.keys or row["key"] in self.keys)


def takes(row: Row, selection: Selection, wanted: Filter) -> bool:
    """Whether a row is one of those that a command is about."""
    return (
        wanted.takes(row)
        and selection.has_dataset(row["dataset"])
        and selection.has_date(date.fromisoformat(row["date"]))
    )


def ids(rows: Iterable[Row]) -> list[int]:
    return [int(row["id"]) for row in rows]
