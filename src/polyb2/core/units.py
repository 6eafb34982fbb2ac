"""Sizes, durations and numbers as people write them, and back.

Decimal and binary units are told apart (``50M`` is 50,000,000, ``64MiB`` is 67,108,864); a bare number is bytes or seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SHOWN_MAX = 100
_SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*(ms|s|m|h|d|)", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = (("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("GiB", 1 << 30), ("MiB", 1 << 20))
_DURATION_UNITS = (("d", 2 * 86_400, 86_400), ("h", 3600, 3600), ("m", 120, 60), ("s", 1, 1))
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """``64MiB``, ``50M``, ``1.5 GB`` or plain bytes, in bytes.

    Raises:
        ValueError: the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text[:_SHOWN_MAX]!r} is not a size: write 64MiB, 50M or a number of bytes")
    base = 1024 if match[3] else 1000
    size = Fraction(match[1]) * base ** _POWERS[match[2].lower()]
    if 0 < size < 1:  # not to be cut to 0, which means "no limit" in most places
        raise ValueError(f"{text[:_SHOWN_MAX]!r} is less than a byte: write 64MiB, 50M or a number of bytes")
    return int(size)


def parse_duration(text: str) -> float:
    """``500ms``, ``30s``, ``15m``, ``24h``, ``7d`` or plain seconds, in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:_SHOWN_MAX]!r} is not a duration: write 500ms, 30s, 15m, 24h or a number of seconds")
    return float(match[1]) * _SECONDS[match[2].lower()]


def write_size(size: float) -> str:
    """Bytes as a setting has them, exactly: ``64MiB``, ``1TB``."""
    unit, factor = next(((unit, factor) for unit, factor in _SIZE_UNITS if size and size % factor == 0), ("", 1))
    return f"{int(size) // factor}{unit}"


def write_duration(seconds: float) -> str:
    """Seconds as a setting has them: ``500ms``, ``60s``, ``15m``."""
    for unit, least, factor in _DURATION_UNITS:
        if seconds >= least and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def format_size(size: float) -> str:
    """Bytes in the decimal unit that keeps the figure short: ``172.0 GB``."""
    if round(abs(size)) < 1000:  # noqa: PLR2004 - the step between decimal units
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if round(abs(size), 1) < 1000:  # noqa: PLR2004
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} PB"


def format_duration(seconds: float) -> str:
    """Seconds as ``45s``, ``12m05s``, ``3h07m`` or ``2d04h``."""
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{whole}s"


def iso_utc(epoch_ms: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601 in UTC, ``2024-01-02T03:04:05.678Z``."""
    if epoch_ms is None:
        return None
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_whole(text: str) -> int:
    """A whole number of ASCII digits.

    Raises:
        ValueError: the text is none; in a library's words.
    """
    return int(text) if _WHOLE.fullmatch(text) else int("")


def parse_number(text: str) -> float:
    """A number of ASCII digits.

    Raises:
        ValueError: the text is none; in a library's words.
    """
    return float(text) if text.isascii() else float("")


@dataclass(frozen=True, slots=True)
class Within:
    """Numbers between two limits, which are allowed too.

    Attributes:
        name: of what has no unit; its ``read`` is a library's, whose words are not for a user.
        read: makes a number of text.
        write: the text of a number.
        zero: the meaning of a zero below ``least``; nothing where that is not allowed.
    """

    least: float
    most: float
    read: Callable[[str], float]
    write: Callable[[float], str] = "{:.10g}".format
    name: str = ""
    zero: str = ""

    @property
    def words(self) -> str:
        """The range, as a person writes it."""
        span = f"{self.write(self.least)} to {self.write(self.most)}"
        return f"{span}, or 0 for {self.zero}" if self.zero else span

    def __call__(self, value: float | str) -> float:
        try:
            number = self.read(value) if isinstance(value, str) else value
        except ValueError:
            if not self.name:
                raise
            raise ValueError(f"{str(value)[:_SHOWN_MAX]!r} is not {self.name}: write {self.words}") from None
        # Not a number is in no range.
        if not (self.least <= number <= self.most or (self.zero and number == 0)):
            raise ValueError(f"{str(value)[:_SHOWN_MAX]!r} is out of range: write {self.words}")
        return number


@dataclass(frozen=True, slots=True)
class OneOf:
    """A word of a few, in upper or lower case."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        return " or ".join(filter(None, [", ".join(self.choices[:-1]), self.choices[-1]]))

    def __call__(self, value: str) -> str:
        found = next((choice for choice in self.choices if choice.lower() == value.lower()), None)
        if found is None:
            raise ValueError(f"{value[:_SHOWN_MAX]!r} is not known: write {self.words}")
        return found
