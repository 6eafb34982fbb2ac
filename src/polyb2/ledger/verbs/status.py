"""Answers for people: counts, work, failures, rate. Each takes some milliseconds, whatever the number of rows."""

from __future__ import annotations

from polyb2.core.status import Status
from polyb2.ledger.status_report import Failure, FileAtWork, Runner, StatusReport, Tally
from polyb2.ledger.store import Row, Transaction
from polyb2.ledger.verbs.listings import held

RATE_WINDOW_MS = 60_000
IN_FLIGHT_MAX = 1000
LAST_ERRORS_MAX = 5


def status(tx: Transaction) -> StatusReport:
    """Counts, in-flight files, rate and time left."""
    report = StatusReport()
    for row in tx.rows("counts"):
        counted = Status(row["status"]), row["files"], row["bytes"], row["bytes_done"]
        report.totals.add(*counted)
        report.datasets.setdefault(row["dataset"], Tally()).add(*counted)
    report.in_flight = [FileAtWork(**row) for row in tx.rows("in_flight", limit=IN_FLIGHT_MAX)]
    report.last_errors = last_errors(tx, LAST_ERRORS_MAX)
    report.runners = [_runner(tx, row) for row in tx.rows("workers_live", window_ms=RATE_WINDOW_MS)]
    report.rate_bytes_per_s = rate(tx)
    report.held = held(tx)
    return report


def rate(tx: Transaction) -> float | None:
    """Bytes of receipts of the last 60 s by the time elapsed, 60 s at most; None before the first receipt."""
    recent = tx.one("throughput_recent", window_ms=RATE_WINDOW_MS)["bytes"]
    if recent is None:
        return None
    return _by_time(tx, recent, tx.one("activity_start", window_ms=RATE_WINDOW_MS)["started_ms"])


def _runner(tx: Transaction, row: Row) -> Runner:
    """A live worker, with its rate by the same rule as that of all."""
    found = {name: row[name] for name in row.keys() if name != "bytes"}  # noqa: SIM118 - a row is no mapping
    rate = None if row["bytes"] is None else _by_time(tx, row["bytes"], row["started_ms"])
    return Runner(**found, rate_bytes_per_s=rate)


def _by_time(tx: Transaction, recent: int, started_ms: int | None) -> float:
    """Bytes of the window by the time of it that elapsed since a start, one second at least."""
    since_ms = tx.now_ms - RATE_WINDOW_MS
    elapsed_ms = max(1000, tx.now_ms - max(started_ms or since_ms, since_ms))
    return recent * 1000 / min(elapsed_ms, RATE_WINDOW_MS)


def throughput(tx: Transaction) -> list[tuple[int, int]]:
    """The bytes that became durable in each second (epoch) of the last hour of work."""
    return [(row["second"], row["bytes"]) for row in tx.rows("throughput_history")]


def last_errors(tx: Transaction, limit: int) -> list[Failure]:
    """The newest failures that still stand."""
    return [Failure(**row) for row in tx.rows("last_errors", limit=limit)]


def waiting_since(tx: Transaction) -> dict[str, int]:
    """The time since which the oldest waiting file of each dataset waits, epoch milliseconds; none if none waits."""
    return {row["dataset"]: row["since_ms"] for row in tx.rows("waiting_since")}


def datasets(tx: Transaction) -> list[str]:
    return [row["dataset"] for row in tx.rows("datasets")]
