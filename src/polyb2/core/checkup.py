"""The result of a preflight: a list of checks, each passed, doubtful, failed or skipped, with what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """``skip``: the check does not apply, or could not be made because an earlier one failed."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: its name (stable, for scripts), how it ended, what was found, and what to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


@dataclass(slots=True)
class Checkup:
    """All checks, in the order in which they were made."""

    checks: list[Check] = field(default_factory=list)

    def add(self, name: str, level: Level, found: str, advice: str = "") -> None:
        self.checks.append(Check(name, level, found, advice))

    @property
    def failure(self) -> Check | None:
        """The first check that failed, which is the first thing to fix."""
        return next((check for check in self.checks if check.level is Level.FAIL), None)

    def count(self, level: Level) -> int:
        return sum(check.level is level for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The contract's ``doctor --json``."""
        return {
            "ok": self.failure is None,
            **{level.value: self.count(level) for level in Level},
            "checks": [
                {"name": item.name, "level": item.level, "found": item.found, "advice": item.advice}
                for item in self.checks
            ],
        }
