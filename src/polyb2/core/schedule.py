"""A limit that depends on the time of day: ``50M``, or ``08:00-18:00=50M,*=0``.

Invariant: every minute of the day has exactly one limit. Ranges include their first minute and not their last, may cross
midnight, and do not overlap; ``*`` is the rest of the day, which has no limit where it is not given. A time zone may be
put in front, as in ``America/New_York 09:30-16:00=20M``; without one the machine's own local time counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from polyb2.core.units import format_size, parse_size

DAY_MINUTES = 24 * 60
_RANGE = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", re.ASCII)
_ZONE = re.compile(r"([A-Za-z][\w+/-]*)\s+(?=[\d*])")
_SHAPE = "write 50M, or like 08:00-18:00=50M,*=0"
_LIMIT_MAX = 10**18


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes ``first <= minute < last`` of the day with a limit of their own; across midnight if ``last <= first``."""

    first: int
    last: int
    per_second: int

    def __contains__(self, minute: int) -> bool:
        if self.first < self.last:
            return self.first <= minute < self.last
        return minute >= self.first or minute < self.last

    def __str__(self) -> str:
        return f"{_clock(self.first)}-{_clock(self.last)}"

    def overlaps(self, other: Window) -> bool:
        return other.first in self or self.first in other


@dataclass(frozen=True, slots=True)
class Schedule:
    """Bytes a second by the minute of the day; 0 is no limit.

    Attributes:
        otherwise: the limit outside the windows.
        windows: those of the day that have their own.
        zone: the name of the time zone they are meant in, None for local time.
    """

    otherwise: int = 0
    windows: tuple[Window, ...] = ()
    zone: str | None = None

    def at(self, minute: int) -> int:
        """The limit in a minute of the day, 0 to 1439."""
        return next((window.per_second for window in self.windows if minute in window), self.otherwise)

    def until(self, minute: int) -> int | None:
        """The minute of the day at which the limit of ``minute`` ends; None if it never does."""
        now = self.at(minute)
        edges = {edge % DAY_MINUTES for window in self.windows for edge in (window.first, window.last)}
        ends = [edge for edge in edges if self.at(edge) != now]
        return min(ends, key=lambda edge: (edge - minute) % DAY_MINUTES, default=None)

    def words(self, minute: int) -> str:
        """The limit in force, for people: ``limit 50.0 MB/s until 18:00``; empty if there never is one."""
        limit, end = self.at(minute), self.until(minute)
        if not limit and end is None:
            return ""
        figure = f"limit {format_size(limit)}/s" if limit else "no limit"
        return figure if end is None else f"{figure} until {_clock(end)}"


NO_LIMIT = Schedule()


def parse_schedule(text: str) -> Schedule:
    """One figure, or ranges of the day with a figure each.

    Raises:
        ValueError: the text is neither, or two of its ranges overlap; says what to write.
    """
    zone = _ZONE.match(text.strip())
    entries = text.strip()[zone.end() if zone else 0 :].split(",")
    if len(entries) == 1 and "=" not in entries[0]:
        return Schedule(_limit(entries[0]), (), zone[1] if zone else None)
    windows: list[Window] = []
    otherwise: int | None = None
    for entry in entries:
        span, equals, figure = (word.strip() for word in entry.partition("="))
        if not equals:
            raise ValueError(f"{entry.strip()!r} has no figure: {_SHAPE}")
        if span == "*":
            if otherwise is not None:
                raise ValueError("* is given twice: it is the rest of the day")
            otherwise = _limit(figure)
        else:
            windows.append(_window(span, _limit(figure)))
    _check_apart(windows)
    return Schedule(otherwise or 0, tuple(windows), zone[1] if zone else None)


def _limit(figure: str) -> int:
    limit = parse_size(figure)
    if limit > _LIMIT_MAX:
        raise ValueError(f"{figure!r} is more than any line carries: write 0 for no limit")
    return limit


def _window(span: str, per_second: int) -> Window:
    match = _RANGE.fullmatch(span)
    if match is None:
        raise ValueError(f"{span!r} is not a range of the day: {_SHAPE}")
    first, last = (_minute(match[hour], match[hour + 1]) for hour in (1, 3))
    if first == DAY_MINUTES:
        first = 0
    if first == last:
        raise ValueError(f"{span!r} is empty: for the whole day write *={format_size(per_second).replace(' ', '')}")
    return Window(first, last, per_second)


def _minute(hour: str, minute: str) -> int:
    moment = int(hour) * 60 + int(minute)
    if int(minute) > 59 or moment > DAY_MINUTES:  # noqa: PLR2004 - the last minute of an hour
        raise ValueError(f"{hour}:{minute} is not a time of day: write 00:00 to 24:00")
    return moment


def _check_apart(windows: list[Window]) -> None:
    for index, window in enumerate(windows):
        for other in windows[:index]:
            if window.overlaps(other):
                raise ValueError(f"{other} and {window} overlap: give each minute one limit")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
