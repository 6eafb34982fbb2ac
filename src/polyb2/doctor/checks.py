"""The checks of a preflight: each passed, doubtful, failed or skipped, with what to do.

A remote error becomes a failed check with the words that a run would fail with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from polyb2.core.classification import refused_by_proxy
from polyb2.core.errors import HANDLING, Kind, LedgerError, RemoteError, UsageError
from polyb2.ledger.rows import Check, Level


@dataclass(slots=True)
class Checkup:
    """All checks, in the order in which they were made."""

    checks: list[Check] = field(default_factory=list)

    @property
    def failure(self) -> Check | None:
        """The first check that failed, which is the first thing to fix."""
        return next((check for check in self.checks if check.level is Level.FAIL), None)

    def count(self, level: Level) -> int:
        return sum(check.level is level for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The object of ``doctor --json``."""
        return {
            "ok": self.failure is None,
            **{level.value: self.count(level) for level in Level},
            "checks": [asdict(check) for check in self.checks],
        }


class FailedError(Exception):
    """A check failed and is on record; those that need it are skipped."""


class Notes:
    """The checks of one subject: ``source``, ``target``, ``ledger``."""

    def __init__(self, checkup: Checkup, subject: str) -> None:
        self._checkup = checkup
        self._subject = subject

    def passed(self, name: str, found: str, advice: str = "") -> None:
        self._add(name, Level.PASS, found, advice)

    def doubtful(self, name: str, found: str, advice: str) -> None:
        self._add(name, Level.WARN, found, advice)

    def failed(self, name: str, found: str, advice: str) -> None:
        self._add(name, Level.FAIL, found, advice)

    def skipped(self, name: str, why: str) -> None:
        self._add(name, Level.SKIP, why, "")

    def add_all(self, checks: Iterable[Check]) -> None:
        """Add what the ledger found of itself, under this subject."""
        for check in checks:
            self._add(check.name, check.level, check.found, check.advice)

    def _passed(self, name: str) -> bool:
        wanted = f"{self._subject}.{name}"
        return any(check.name == wanted and check.level is Level.PASS for check in self._checkup.checks)

    def _add(self, name: str, level: Level, found: str, advice: str) -> None:
        self._checkup.checks.append(Check(f"{self._subject}.{name}", level, found, advice))

    @contextmanager
    def checking(self, name: str, capability: str = "") -> Iterator[None]:
        """Turn an error of the block into a failed check, and :class:`FailedError`.

        Args:
            name: of the check.
            capability: the capability that the key lacks if it is refused.
        """
        try:
            yield
        except RemoteError as error:
            self._note(name, error, capability)
        except (UsageError, LedgerError) as error:
            self.failed(name, str(error), "")
        else:
            return
        raise FailedError

    def _note(self, name: str, error: RemoteError, capability: str) -> None:
        if self._passed("list"):
            error = refused_by_proxy(error)
        if capability and error.kind in {Kind.NOT_PERMITTED, Kind.FORBIDDEN}:
            advice = HANDLING[Kind.NOT_PERMITTED].advice
            self.failed(name, f"the key lacks {capability}: {error.found}", advice)
        else:
            self.failed(name, error.found, error.advice)
