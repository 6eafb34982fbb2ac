"""The exit codes of every command: a promise to scripts. The help, README and ``docs/`` are made of this table."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """Exit codes of the commands, and the words that document them."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "done, or a --watch that was asked to stop"
    UNEXPECTED = 1, "an unexpected error (--debug shows the traceback)"
    USAGE = 2, "wrong usage or configuration: nothing was changed"
    UNFINISHED = (
        3,
        (
            "ended, but files that this process attempted failed or are parked, verify found a difference, "
            "coverage --require found a day lacking, cleanup left an upload, or a key that was named is not in the ledger"
        ),
    )
    STOPPED = (
        4,
        (
            "the account or the other side stops everything: keys, a cap, or an outage longer than POLYB2_GIVE_UP, "
            "or a check of doctor failed"
        ),
    )
    HANGUP = 129, "interrupted by SIGHUP"
    INTERRUPTED = 130, "interrupted by SIGINT"
    TERMINATED = 143, "interrupted by SIGTERM"

    @classmethod
    def of_signal(cls, number: int) -> ExitCode:
        """The code of a command that a signal ended."""
        return next(code for code in cls if code == 128 + number)
