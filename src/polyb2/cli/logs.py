"""Everything on stderr: log lines, one event a line, in UTC, and the lines that a command ends with.

Ours come at the chosen level, those of the libraries only as warnings: their debug logs hold headers and URLs with
signatures. Text is for people and stays calm: completed files are shown only at LOG_LEVEL=DEBUG, as the summary counts
them. ``--log-format json`` is for programs: an object a line, with the names and fields of ``core/logevents.py``. Invariant:
every line is scrubbed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyb2.core.errors import UsageError
from polyb2.core.logevents import EVENT, FIELDS, FORMATS, LogEvent, log_fields
from polyb2.core.scrub import scrub, shown
from polyb2.core.units import iso_utc
from polyb2.variables import tidy

if TYPE_CHECKING:
    from rich.console import Console

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CLOCK = "%H:%M:%SZ"
_FOR_PROGRAMS = {LogEvent.FILE_COMPLETED}
_ON_THE_DISPLAY = _FOR_PROGRAMS | {LogEvent.RUN_STARTED, LogEvent.RUN_ENDED}
_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@dataclass(slots=True)
class OutputOptions:
    """The options of output, which stand before or after a command.

    Attributes:
        quiet: nothing but errors on stderr, and what was asked for on stdout.
        debug: a traceback where something fails.
        log_format: ``text`` or ``json``; None, until it is set, means text.
    """

    quiet: bool = False
    debug: bool = False
    log_format: str | None = None

    @property
    def is_json(self) -> bool:
        return self.log_format == "json"

    def reset(self) -> None:
        """As at the start of a process: the format is the environment's, before the settings are read."""
        given = tidy(os.environ.get("POLYB2_LOG_FORMAT", "")).lower()
        self.quiet, self.debug, self.log_format = False, False, given if given in FORMATS else None

    def set(self, *, quiet: bool = False, debug: bool = False, log_format: str | None = None) -> None:
        """Add what one place of the command line says.

        Raises:
            UsageError: the format is not known.
        """
        self.quiet, self.debug = self.quiet or quiet, self.debug or debug
        if log_format is not None:
            if log_format not in FORMATS:
                raise UsageError(f"--log-format: {log_format!r} is not a format: write {' or '.join(FORMATS)}")
            self.log_format = log_format


OUTPUT = OutputOptions()


class _Text(logging.Formatter):
    """One line an event; an error's type, and its traceback with ``--debug`` only."""

    converter = staticmethod(time.gmtime)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - the library's
        return super().formatException(ei) if OUTPUT.debug else f"{ei[0].__name__} (--debug shows the traceback)"

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return scrub(line if OUTPUT.debug else " ".join(line.splitlines()))


class _Json(logging.Formatter):
    """One object a line; the fields of an event never hide the four that every line has."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": iso_utc(int(record.created * 1000)),
            "level": record.levelname,
            "event": getattr(record, EVENT, LogEvent.MESSAGE),
            "message": scrub(" ".join(record.getMessage().split())),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            if OUTPUT.debug:
                line["traceback"] = scrub(self.formatException(record.exc_info))
        fields: dict[str, object] = getattr(record, FIELDS, {})
        return json.dumps(line | {name: _plain(value) for name, value in fields.items() if name not in line})


def _plain(value: object) -> object:
    """A value as JSON has it: figures rounded to what is meant, words scrubbed."""
    if isinstance(value, float):
        return round(value, 3)
    return value if isinstance(value, bool | int) else scrub(str(value))


class _Handler(logging.Handler):
    """Writes through the console while a live display owns the terminal, so that lines do not tear it."""

    console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if self.console is not None:
            from rich.text import Text

            with suppress(OSError):  # as in say()
                self.console.print(Text(shown(line), style=_LEVELS.get(record.levelname, "")))
        else:
            say(line)


def say(line: str) -> None:
    """Write a line to stderr; where its reader has gone away, or its disk is full, the work goes on without."""
    with suppress(OSError):
        sys.stderr.write(shown(line) + "\n")
        sys.stderr.flush()


def _without(names: set[LogEvent]) -> Callable[[logging.LogRecord], bool]:
    return lambda record: getattr(record, EVENT, None) not in names


def set_up_logging(level: str, console: Console | None = None) -> None:
    """Send our log lines to stderr, or through ``console`` while it shows a live display."""
    handler = _Handler()
    if OUTPUT.is_json:
        handler.setFormatter(_Json())
    else:
        handler.console = console
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(message)s", _CLOCK if console else _TIME))
        if level != "DEBUG":
            handler.addFilter(_without(_ON_THE_DISPLAY if console else _FOR_PROGRAMS))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("polyb2").setLevel("ERROR" if OUTPUT.quiet else level)


def print_failure(words: str, exit_code: int) -> None:
    """Print on stderr why the command fails: a plain line, or an object where the log is one."""
    _print_line("ERROR", words, log_fields(LogEvent.COMMAND_FAILED, exit_code=exit_code))


def print_warning(words: str) -> None:
    """Print on stderr what is odd before a command begins; nothing with ``--quiet``."""
    if not OUTPUT.quiet:
        _print_line("WARNING", words, {})


def print_stop(number: int) -> None:
    """Print on stderr that a signal ended ``run`` or ``sync`` before or after its work; nothing with ``--quiet``."""
    if not OUTPUT.quiet:
        words = f"stopped by {signal.Signals(number).name}; nothing was under way"
        _print_line("INFO", words, log_fields(LogEvent.RUN_STOPPING, signal=number, seconds=0))


def _print_line(level: str, words: str, fields: dict[str, object]) -> None:
    if OUTPUT.is_json:
        say(_Json().format(logging.makeLogRecord({"levelname": level, "msg": words, **fields})))
    else:
        say(f"polyb2: {'warning: ' * (level == 'WARNING')}{words}")
