"""The live display of ``run`` and ``sync`` on a terminal, and a calm log line now and then where there is none."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from polyb2.core.units import format_duration, format_size

if TYPE_CHECKING:
    from polyb2.flow.mirror import Mirror
    from polyb2.flow.outage import Outage
    from polyb2.ledger.reports import StatusReport

log = logging.getLogger(__name__)
REFRESH_S = 0.5
LOG_EVERY_S = 30.0
RATE_SAMPLES = 20
_BAR_COLUMNS = 30


class Progress:
    """Watches a mirror at work; reads the ledger's counts and the streams' counters, and touches nothing."""

    def __init__(self) -> None:
        terminal = Console(stderr=True, highlight=False, markup=False)
        self.live = terminal.is_terminal and not terminal.is_dumb_terminal
        self.console = terminal if self.live else None
        self._task: asyncio.Task[None] | None = None
        self._display: Live | None = None
        self._is_aside = False
        self._samples: deque[tuple[float, float]] = deque(maxlen=RATE_SAMPLES)

    def start(self, mirror: Mirror, outage: Outage) -> None:
        """Begin to show; called on the event loop."""
        self._task = asyncio.create_task(self._show(mirror, outage), name="progress")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            # A picture that could not be drawn hides nothing of what it was to show.
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to somebody else for a while."""
        self._is_aside = True
        if self._display is not None:
            self._display.stop()
        try:
            yield
        finally:
            self._is_aside = False
            if self._display is not None:
                self._display.start()

    async def _show(self, mirror: Mirror, outage: Outage) -> None:
        if self.console is None:
            await self._log(mirror)
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._display:
            while True:
                report = await mirror.ledger.status()
                if not self._is_aside:
                    self._display.update(self._picture(mirror, outage, report), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _log(self, mirror: Mirror) -> None:
        while True:
            await asyncio.sleep(LOG_EVERY_S)
            log.info("%s", self._summary(mirror, await mirror.ledger.status()))

    def _summary(self, mirror: Mirror, report: StatusReport) -> str:
        done, total, rate = self._figures(mirror, report)
        left = report.bytes_left
        eta = f", {format_duration(left / rate)} left" if rate > 1 and left else ""
        completed = report.totals.by_status["completed"]["files"]  # type: ignore[index]
        return (
            f"{completed} of {report.totals.files} files, {format_size(done)} of {format_size(total)}, "
            f"{format_size(rate)}/s{eta}"
        )

    def _figures(self, mirror: Mirror, report: StatusReport) -> tuple[float, float, float]:
        """Bytes done, bytes in all, bytes per second over the last samples."""
        on_the_way = sum(relay.seen for entry in mirror.in_flight.values() for relay in entry.relays)
        done = float(min(report.totals.bytes, report.totals.bytes_done + on_the_way))
        now_s = asyncio.get_running_loop().time()
        self._samples.append((now_s, done))
        first_s, first = self._samples[0]
        rate = max(0.0, (done - first) / (now_s - first_s)) if now_s > first_s else 0.0
        return done, float(report.totals.bytes), rate

    def _picture(self, mirror: Mirror, outage: Outage, report: StatusReport) -> Group:
        done, total, _ = self._figures(mirror, report)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=_BAR_COLUMNS), Text(self._summary(mirror, report))
        )
        rows = Table.grid(padding=(0, 1), expand=False)
        room = max(3, (self.console.height if self.console else 24) - 4)
        for entry in list(mirror.in_flight.values())[:room]:
            share = entry.bytes_done / entry.size if entry.size else 0.0
            bar = ProgressBar(total=1, completed=share, width=_BAR_COLUMNS // 2)
            rows.add_row(
                bar,
                f"{100 * share:3.0f} %",
                f"{format_size(entry.size):>9}",
                Text(entry.key, overflow="ellipsis", no_wrap=True),
            )
        trouble = [Text(f"paused: {outage.error}", style="yellow")] if outage.error is not None else []
        return Group(head, rows, *trouble)
