"""The bandwidth limit of the process: bytes a second over all body transfers, by the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from polyb2.core.logevents import LogEvent, told
from polyb2.core.schedule import NO_LIMIT, Schedule

log = logging.getLogger(__name__)


class Bandwidth:
    """Bytes per second over all streams, by the clock; 0 is no limit. A burst of a tenth of a second is let through.

    A stream that waits already waits to the end of what it was told; the next chunk follows the limit then in force.
    """

    BURST_S = 0.1
    LOOK_EVERY_S = 1.0

    def __init__(self, schedule: Schedule = NO_LIMIT, minute: Callable[[], int] = lambda: 0) -> None:
        """``minute`` reads the clock: the minute of the day in the schedule's time zone, 0 to 1439."""
        self._schedule = schedule
        self._minute = minute
        self._free_s = 0.0
        self._look_s = 0.0
        self.per_second = schedule.at(minute())

    @property
    def words(self) -> str:
        """The limit in force, for people; empty where there is none."""
        return self._schedule.words(self._minute())

    def delay_s(self, count: int) -> float:
        """Book ``count`` bytes; the seconds that their stream has to wait."""
        now_s = asyncio.get_running_loop().time() if self._schedule.windows or self.per_second else 0.0
        if self._schedule.windows and now_s >= self._look_s:
            self._look(now_s)
        if not self.per_second:
            return 0.0
        self._free_s = max(self._free_s, now_s - self.BURST_S) + count / self.per_second
        return max(0.0, self._free_s - now_s)

    def _look(self, now_s: float) -> None:
        """Follow the clock; what is booked and not yet sent is paid at the new rate."""
        self._look_s = now_s + self.LOOK_EVERY_S
        limit = self._schedule.at(self._minute())
        if limit == self.per_second:
            return
        booked = max(0.0, self._free_s - now_s) * self.per_second
        self._free_s = now_s + (booked / limit if limit else 0.0)
        self.per_second = limit
        log.info("%s", self.words, extra=told(LogEvent.BANDWIDTH_CHANGED, bytes_per_s=limit))
