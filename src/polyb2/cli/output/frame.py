"""The live display, drawn from figures alone: one bar over all, a line a file in flight, nothing that wraps.

Every line fits the width that it is given; a key that does not is shortened in its middle, where dataset and date are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from polyb2.core.keys import parse_key
from polyb2.core.scrub import escape
from polyb2.core.units import format_duration, format_size

if TYPE_CHECKING:
    from polyb2.flow.mirror import InFlight

_BAR_COLUMNS = (8, 50)
_ROW_BAR_COLUMNS = 10
_ROW_FIGURES = _ROW_BAR_COLUMNS + len("  100 %   999.9 GB  ")
_FRAME_LINES = 5
_LEFT_MAX_S = 365 * 86400.0
"""A longer time left is no estimate: the line drips, and will not for so long."""
_DOTS = "…"


@dataclass(frozen=True, slots=True)
class Frame:
    """The figures of one moment; bytes, bytes a second, files.

    Attributes:
        bytes_done: what this run has brought so far.
        bytes_left: what is still to come.
        rate: over the last seconds; None where nothing moved.
        files_done: completed since the run began.
        files_left: waiting or in work.
        retrying: those of them that wait for a retry.
        parked: failed for good, in the whole ledger.
        in_flight: at work in this process.
        limit: the bandwidth limit in words.
        trouble: why nothing moves, in words.
    """

    bytes_done: float
    bytes_left: float
    rate: float | None
    files_done: int
    files_left: int
    retrying: int = 0
    parked: int = 0
    in_flight: Sequence[InFlight] = ()
    limit: str = ""
    trouble: str = ""

    @property
    def share(self) -> float:
        total = self.bytes_done + self.bytes_left
        return self.bytes_done / total if total else 0.0

    @property
    def eta_s(self) -> float | None:
        seconds = self.bytes_left / self.rate if self.rate else 0.0
        return seconds if 0 < seconds <= _LEFT_MAX_S else None

    def words(self) -> str:
        """The moment in one line, for logs."""
        files = f"{self.files_done} of {self.files_done + self.files_left} files"
        return ", ".join([files, *self.figures(), *self.notes()])

    def figures(self) -> list[str]:
        """Bytes, rate and time left, as far as they are known."""
        figures = [f"{format_size(self.bytes_done)} of {format_size(self.bytes_done + self.bytes_left)}"]
        if self.rate is not None:
            figures.append(f"{format_size(self.rate)}/s")
        if self.eta_s is not None:
            figures.append(f"{format_duration(self.eta_s)} left")
        return figures

    def notes(self) -> list[str]:
        """Counts of files that failed, and the limit."""
        counts = [
            f"{count} {words}" for count, words in ((self.retrying, "to retry"), (self.parked, "parked")) if count
        ]
        return counts + ([self.limit] if self.limit else [])


def drawn(frame: Frame, width: int, height: int) -> RenderableType:
    """The display of one moment in ``width`` columns and at most ``height`` lines."""
    files = f"{frame.files_done} of {frame.files_done + frame.files_left} files"
    second = ", ".join([files, f"{len(frame.in_flight)} in flight", *frame.notes()])
    room = max(1, height - _FRAME_LINES)
    shown = frame.in_flight if len(frame.in_flight) <= room else frame.in_flight[: room - 1]
    lines: list[RenderableType] = [_head(frame, width), _line(second), *(_row(file, width) for file in shown)]
    if len(shown) < len(frame.in_flight):
        lines.append(_line(f"and {len(frame.in_flight) - len(shown)} more"))
    if frame.trouble:
        lines.append(Text(frame.trouble, style="yellow"))
    return Group(*lines)


def _head(frame: Frame, width: int) -> RenderableType:
    figures = f"{100 * frame.share:3.0f} %  {'  '.join(frame.figures())}"
    least, most = _BAR_COLUMNS
    columns = min(most, max(least, width - len(figures) - 2))
    return _grid(ProgressBar(total=1, completed=frame.share, width=columns), figures)


def _row(file: InFlight, width: int) -> RenderableType:
    share = file.bytes_done / file.size if file.size else 0.0
    again = f"  attempt {file.attempt}" if file.attempt > 1 else ""
    # Escaped before it is measured: the console would do it after the layout, and the line be longer than that.
    key = elided(escape(file.key), width - _ROW_FIGURES - len(again))
    figures = f"{100 * share:3.0f} %  {format_size(file.size):>9}  {key}{again}"
    return _grid(ProgressBar(total=1, completed=share, width=_ROW_BAR_COLUMNS), figures)


def _grid(bar: ProgressBar, words: str) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(bar, _line(words))
    return grid


def _line(words: str) -> Text:
    return Text(words, no_wrap=True, overflow="ellipsis")


def elided(key: str, width: int) -> str:
    """The key in at most ``width`` columns: without year and month, which the date repeats, then cut in the middle."""
    if len(key) <= width:
        return key
    name = parse_key(key)
    if name is not None:
        short = f"{name.dataset}/{_DOTS}/{name.date}"
        key = next((fits for fits in (f"{short}.csv.gz", f"{short}{_DOTS}") if len(fits) <= width), short)
    if len(key) <= width:
        return key
    kept = max(width - 1, 2)
    return f"{key[: kept // 2]}{_DOTS}{key[-(kept - kept // 2) :]}"
