"""The live display of ``run`` and ``sync`` on a terminal, and a calm log line now and then where there is none."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.live import Live

from polyb2.cli.logs import OUTPUT, set_up_logging
from polyb2.cli.output.console import SafeConsole
from polyb2.cli.output.frame import Frame, drawn
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.status import WAITING, Status

if TYPE_CHECKING:
    from polyb2.flow.mirror import InFlight, Mirror
    from polyb2.flow.run.breaker import CircuitBreaker

log = logging.getLogger(__name__)
REFRESH_S = 0.5
RATE_WINDOW_S = 10.0
LOG_FIRST_S, LOG_EVERY_S, LOG_FIRST_COUNT = 30.0, 300.0, 10
"""Log lines: so many close ones at first, then fewer."""


class Progress:
    """Display of a mirror at work; reads the ledger's counts and the streams' counters, and changes nothing.

    Log lines of ``level`` go through it, so that they do not tear it; it ends with the block.
    """

    def __init__(self, level: str) -> None:
        terminal = SafeConsole(stderr=True, highlight=False, markup=False, emoji=False)
        plain = OUTPUT.quiet or OUTPUT.is_json or not terminal.is_terminal or terminal.is_dumb_terminal
        self.console = None if plain else terminal
        self._task: asyncio.Task[None] | None = None
        self._display: Live | None = None
        self._is_aside = False
        set_up_logging(level, self.console)

    def start(self, mirror: Mirror, breaker: CircuitBreaker) -> None:
        """Begin to show; called on the event loop."""
        if not OUTPUT.quiet:
            self._task = asyncio.create_task(self._show(_Figures(mirror, breaker)), name="progress")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            # An error of the display must not hide the outcome of the run.
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to a question for a while."""
        self._is_aside = True
        if self._display is not None:
            self._display.stop()
        try:
            yield
        finally:
            self._is_aside = False
            if self._display is not None:
                self._display.start()

    async def _show(self, figures: _Figures) -> None:
        if self.console is None:
            await self._log(figures)
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._display:
            while True:
                frame = await figures.frame()
                if not self._is_aside:
                    width, height = self.console.size
                    self._display.update(drawn(frame, width, height), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _log(self, figures: _Figures) -> None:
        """A line now and then while something moves; nothing at all while there is nothing to do."""
        before = await figures.frame()
        count = 0
        while True:
            await asyncio.sleep(LOG_FIRST_S if count < LOG_FIRST_COUNT else LOG_EVERY_S)
            frame = await figures.frame()
            if (frame.files_left, frame.bytes_done) == (before.files_left, before.bytes_done) and not frame.in_flight:
                continue
            count, before = count + 1, frame
            log.info("%s", frame.words(), extra=_fields(frame))


class _Figures:
    """The figures of this run, from counts that also hold what came before it."""

    def __init__(self, mirror: Mirror, breaker: CircuitBreaker) -> None:
        self._mirror = mirror
        self._breaker = breaker
        self._first: tuple[int, int] | None = None
        self._samples: deque[tuple[float, int]] = deque()

    async def frame(self) -> Frame:
        report = await self._mirror.ledger.status()
        counts = {status: report.totals.by_status[status]["files"] for status in Status}
        completed = counts[Status.COMPLETED]
        self._first = self._first or (completed, report.totals.bytes_done)
        # Bytes that came in and have no receipt yet.
        on_the_way = min(report.bytes_left, sum(file.bytes_on_the_way for file in self._in_flight()))
        error = self._breaker.error
        return Frame(
            bytes_done=max(0, report.totals.bytes_done - self._first[1]) + on_the_way,
            bytes_left=report.bytes_left - on_the_way,
            rate=self._rate(),
            files_done=max(0, completed - self._first[0]),
            files_left=sum(counts[status] for status in WAITING | {Status.PROCESSING}),
            retrying=counts[Status.FAILED_DOWNLOAD] + counts[Status.FAILED_UPLOAD],
            parked=counts[Status.PERMANENT_FAILURE] + counts[Status.NOT_ENTITLED],
            in_flight=self._in_flight(),
            limit=self._mirror.bandwidth.words,
            trouble="" if error is None else f"paused: {error}",
        )

    def _in_flight(self) -> list[InFlight]:
        return list(self._mirror.in_flight.values())

    def _rate(self) -> float | None:
        """Bytes a second of the last seconds, those of tries that failed left out; None before anything moved."""
        now_s = asyncio.get_running_loop().time()
        on_the_way = sum(file.bytes_on_the_way for file in self._in_flight())
        self._samples.append((now_s, self._mirror.meters.stored_bytes.total() + on_the_way))
        while len(self._samples) > 2 and self._samples[0][0] < now_s - RATE_WINDOW_S:  # noqa: PLR2004 - a line's two ends
            self._samples.popleft()
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None


def _fields(frame: Frame) -> dict[str, object]:
    return log_fields(
        LogEvent.RUN_PROGRESS,
        files_done=frame.files_done,
        files_left=frame.files_left,
        files_retrying=frame.retrying,
        files_in_flight=len(frame.in_flight),
        bytes_done=int(frame.bytes_done),
        bytes_left=int(frame.bytes_left),
        bytes_per_s=frame.rate,
        eta_seconds=frame.eta_s,
    )
