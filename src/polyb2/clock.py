"""The clocks: wall time for people and schedules, a boot-wide monotonic clock for leases.

Leases are measured by the monotonic clock of this boot, which every process of the host shares and no clock step moves;
the boot id tells a reboot (or another host) apart, and then the wall clock decides.
Tests set ``POLYB2_FAKE_NOW`` to an ISO moment to choose the day.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from polyb2.core.calendar import EASTERN

FAKE_NOW = "POLYB2_FAKE_NOW"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of the clocks, milliseconds."""

    wall_ms: int
    mono_ms: int
    boot_id: str


class Clock:
    """Reads the clocks; tests pass a subclass."""

    def now(self) -> Moment:
        return Moment(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000, _boot_id())

    def wall_ms(self) -> int:
        return self.now().wall_ms

    def utc(self) -> datetime:
        """Now in UTC, or the moment that ``POLYB2_FAKE_NOW`` names."""
        fake = os.environ.get(FAKE_NOW)
        return datetime.fromisoformat(fake).astimezone(UTC) if fake else datetime.now(UTC)

    def today(self) -> date:
        """The day in US Eastern, the source's time zone."""
        return self.utc().astimezone(EASTERN).date()


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere than on Linux: monotonic clocks restart with the host, which a lease from the future gives away.
        return "unknown"
