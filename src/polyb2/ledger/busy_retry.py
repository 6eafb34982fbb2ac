"""Retry while the database is busy: another process holds the ledger, or its disk is full. Wait, say so once, go on.

A command waits half a minute for another process and for nothing else; a run has a rule of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from polyb2.core.errors import LedgerBusyError, LedgerError
from polyb2.core.logevents import LogEvent, log_fields

log = logging.getLogger(__name__)
T = TypeVar("T")
Rule = Callable[[LedgerError, float], bool]
"""True to try again after an error, given the seconds since what failed first was begun."""
BUSY_S = 30.0
_PAUSE_S = 0.5


def while_busy(error: LedgerError, waited_s: float) -> bool:
    """The rule of a command."""
    return isinstance(error, LedgerBusyError) and waited_s < BUSY_S


class BusyRetry:
    """Tries again what the state of the ledger prevented."""

    def __init__(self, rule: Rule | None = None) -> None:
        self._rule = rule or while_busy
        self._waiting: dict[object, LedgerError] = {}

    @property
    def problem(self) -> LedgerError | None:
        """The error that is waited for now. Success beside it, as of reads while writes cannot, does not end it."""
        return next(reversed(self._waiting.values()), None)

    def goes_on(self, error: LedgerError, waited_s: float) -> bool:
        """Tell if an error is waited for, given the seconds since then."""
        return error.may_pass and self._rule(error, waited_s)

    def waiting(self, call: object, error: LedgerError) -> None:
        """Note that a call waits because of an error, until it is over."""
        if not self._waiting:
            log.warning("waiting: %s", error, extra=log_fields(LogEvent.LEDGER_WAITING))
        self._waiting[call] = error

    def over(self, call: object) -> None:
        """Note that a call could be done."""
        if self._waiting.pop(call, None) and not self._waiting:
            log.info("the ledger can be used again; going on", extra=log_fields(LogEvent.LEDGER_RESUMED))

    def forget(self, call: object) -> None:
        """Note that a call waits no longer, whatever became of it."""
        self._waiting.pop(call, None)

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """The result of ``once``, however often it takes.

        Raises:
            LedgerError: waiting does not cure it, or the rule says that it lasted too long.
        """
        call, first_s = object(), 0.0
        try:
            while True:
                began_s = time.monotonic()
                try:
                    result = await once()
                except LedgerError as error:
                    first_s = first_s or began_s
                    if not self.goes_on(error, time.monotonic() - first_s):
                        raise
                    self.waiting(call, error)
                else:
                    self.over(call)
                    return result
                await asyncio.sleep(_PAUSE_S)
        finally:
            self.forget(call)
