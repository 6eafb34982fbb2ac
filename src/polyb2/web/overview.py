"""The live parts of the overview as values: the state, figures, files in flight, the queue and its failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from polyb2.core.status import WAITING, Status
from polyb2.flow.mirror import DRAINING
from polyb2.ledger.status_report import Runner, Tally
from polyb2.web.failures import FailureKind, kinds_of
from polyb2.web.rate import Chart, chart_of
from polyb2.web.signs import STATUS_SIGNS, Sign
from polyb2.web.snapshot import FileInFlight, ProcessState, Snapshot

IN_FLIGHT_SHOWN = 12
RUNNERS_SHOWN = 100
_FAR_S = 5 * 86_400
_ALWAYS = frozenset({Status.COMPLETED, Status.PROCESSING, Status.PENDING})


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A dataset in the queue, or the sum of all where it is None; ``done`` is a share of 0 to 1."""

    dataset: str | None
    tally: Tally
    done: float
    waits_s: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """All live parts of the page.

    Attributes:
        rate: bytes per second, those of other processes included.
        left_s: seconds to the end at this rate; None where nothing is to be sent or nothing moves.
        in_flight: the first of ``in_flight_count`` files.
        runners: the first of ``runners_count`` processes at work, of all hosts.
        statuses: the columns of the queue; ``rows`` are its datasets, and ``total`` is their sum.
    """

    state: Sign
    as_of: datetime
    problems: Sequence[str]
    process: ProcessState
    rate: float
    left_s: float | None
    left_note: str
    files_left: int
    chart: Chart | None
    in_flight: Sequence[FileInFlight]
    in_flight_count: int
    runners: Sequence[Runner]
    runners_count: int
    statuses: Sequence[Status]
    rows: Sequence[QueueRow]
    total: QueueRow
    failures: Sequence[FailureKind]


def overview_of(snapshot: Snapshot, process: ProcessState) -> Overview:
    totals, since_ms = snapshot.report.totals, snapshot.waiting_since_ms
    # Other processes may share the ledger: the rate of its receipts counts them too.
    rate = max(process.rate or 0.0, snapshot.report.rate_bytes_per_s or 0.0)
    left_s = totals.bytes_left / rate if rate and totals.bytes_left else None
    in_flight = _in_flight(snapshot, process)
    return Overview(
        state=_state(totals, process),
        as_of=datetime.fromtimestamp(snapshot.now_ms / 1000, UTC),
        problems=[words for words in process.problems if words != DRAINING],
        process=process,
        rate=rate,
        left_s=left_s,
        left_note=_left_note(snapshot, left_s),
        files_left=_files(totals, {*WAITING, Status.PROCESSING}),
        chart=chart_of(process.points),
        in_flight=in_flight[:IN_FLIGHT_SHOWN],
        in_flight_count=len(in_flight),
        runners=snapshot.report.runners[:RUNNERS_SHOWN],
        runners_count=len(snapshot.report.runners),
        statuses=[status for status in STATUS_SIGNS if status in _ALWAYS or _files(totals, {status})],
        rows=[_row(snapshot, *item, since_ms.get(item[0])) for item in snapshot.report.datasets.items()],
        total=_row(snapshot, None, totals, min(since_ms.values(), default=None)),
        failures=kinds_of(snapshot.failures),
    )


def _files(tally: Tally, statuses: Iterable[Status]) -> int:
    return sum(tally.by_status[status]["files"] for status in statuses)


def _state(totals: Tally, process: ProcessState) -> Sign:
    if process.is_draining:
        return Sign("rest", "■", "Stopping")
    if process.problems:
        return Sign("bad", "▲", "In trouble" if process.in_flight else "Held up")
    if process.in_flight:
        return Sign("good", "▶", "Transferring")
    if _files(totals, WAITING):
        return Sign("rest", "◷", "Waiting to try again")
    return Sign("good", "✓", "Up to date" if totals.files else "Nothing queued yet")


def _left_note(snapshot: Snapshot, left_s: float | None) -> str:
    if left_s is None:
        return "no rate yet" if snapshot.report.bytes_left else "nothing to send"
    if left_s > _FAR_S:
        return "at this rate"
    end = datetime.fromtimestamp(snapshot.now_ms / 1000 + left_s, UTC)
    return f"until {end:%a %H:%M} UTC"


def _in_flight(snapshot: Snapshot, process: ProcessState) -> list[FileInFlight]:
    """This process's files, then those of others that share the ledger; of its own it knows what has no receipt yet."""
    own, rows = {file.key for file in process.in_flight}, snapshot.report.in_flight
    others = [FileInFlight(row.key, row.size, row.bytes_done, row.attempt) for row in rows if row.key not in own]
    return [*process.in_flight, *others]


def _row(snapshot: Snapshot, dataset: str | None, tally: Tally, since_ms: int | None) -> QueueRow:
    done = tally.bytes_done / tally.bytes if tally.bytes else float(_files(tally, {Status.COMPLETED}) > 0)
    return QueueRow(dataset, tally, done, (snapshot.now_ms - since_ms) / 1000 if since_ms else None)
