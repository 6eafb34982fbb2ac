"""How checks are made and written down: a remote error becomes a failed line with the words that a run would fail with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from polyb2.core.answers import refused_by_proxy
from polyb2.core.checkup import Check, Checkup, Level
from polyb2.core.errors import HANDLING, Kind, LedgerError, RemoteError, UsageError


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
        """Add checks that were made elsewhere, under this subject."""
        for check in checks:
            self._add(check.name, check.level, check.found, check.advice)

    def _passed(self, name: str) -> bool:
        wanted = f"{self._subject}.{name}"
        return any(check.name == wanted and check.level is Level.PASS for check in self._checkup.checks)

    def _add(self, name: str, level: Level, found: str, advice: str) -> None:
        self._checkup.add(f"{self._subject}.{name}", level, found, advice)

    @contextmanager
    def checking(self, name: str, capability: str = "") -> Iterator[None]:
        """What the block raises becomes a failed check, and :class:`FailedError`.

        Args:
            name: of the check.
            capability: what the key lacks if it is refused.
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
