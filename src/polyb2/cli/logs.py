"""Log lines on stderr: one event a line, UTC, ours at the chosen level, those of the libraries only as warnings.

The libraries' debug logs hold headers and URLs with signatures, so they stay off at every level, and every line is scrubbed.
Text is for people and stays calm: of the files that are well it tells at the level DEBUG only, as the summary counts them.
``--log-format json`` is for programs: an object a line, with the names and fields of ``core/logevents.py``.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from polyb2.cli.manner import MANNER
from polyb2.core.logevents import EVENT, FIELDS, LogEvent, log_fields
from polyb2.core.scrub import scrub, shown
from polyb2.core.units import iso_utc

if TYPE_CHECKING:
    from rich.console import Console

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CLOCK = "%H:%M:%SZ"
_FOR_PROGRAMS = {LogEvent.FILE_COMPLETED}
_IN_THE_PICTURE = _FOR_PROGRAMS | {LogEvent.RUN_STARTED, LogEvent.RUN_ENDED}
_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class _Text(logging.Formatter):
    """One line an event; what an error was, and its traceback with ``--debug`` only."""

    converter = staticmethod(time.gmtime)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - the library's
        return super().formatException(ei) if MANNER.debug else f"{ei[0].__name__} (--debug shows the traceback)"

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return scrub(line if MANNER.debug else " ".join(line.splitlines()))


class _Json(logging.Formatter):
    """One object a line; the fields of an event never hide the four that every line has."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, object] = {
            "ts": iso_utc(int(record.created * 1000)),
            "level": record.levelname,
            "event": getattr(record, EVENT, LogEvent.MESSAGE),
            "message": scrub(" ".join(record.getMessage().split())),
        }
        if record.exc_info and record.exc_info[0] is not None:
            shown["error"] = record.exc_info[0].__name__
            if MANNER.debug:
                shown["traceback"] = scrub(self.formatException(record.exc_info))
        fields: dict[str, object] = getattr(record, FIELDS, {})
        return json.dumps(shown | {name: _plain(value) for name, value in fields.items() if name not in shown})


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
    """Write a line to stderr; where nobody reads it any more, or its disk is full, the work goes on without."""
    with suppress(OSError):
        sys.stderr.write(shown(line) + "\n")
        sys.stderr.flush()


def _without(names: set[LogEvent]) -> Callable[[logging.LogRecord], bool]:
    return lambda record: getattr(record, EVENT, None) not in names


def set_up_logging(level: str, console: Console | None = None) -> None:
    """Send our log lines to stderr, or through ``console`` while it shows a live display."""
    handler = _Handler()
    if MANNER.is_json:
        handler.setFormatter(_Json())
    else:
        handler.console = console
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(message)s", _CLOCK if console else _TIME))
        if level != "DEBUG":
            handler.addFilter(_without(_IN_THE_PICTURE if console else _FOR_PROGRAMS))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("polyb2").setLevel("ERROR" if MANNER.quiet else level)


def tell_failure(words: str, exit_code: int) -> None:
    """Say on stderr why the command fails: a plain line, or an object where the log is one."""
    if not MANNER.is_json:
        say(f"polyb2: {words}")
        return
    record = logging.makeLogRecord(
        {"levelname": "ERROR", "msg": words, **log_fields(LogEvent.COMMAND_FAILED, exit_code=exit_code)}
    )
    say(_Json().format(record))


def tell_warning(words: str) -> None:
    """Say on stderr what is odd before a command begins: as :func:`tell_failure`, and nothing with ``--quiet``."""
    if MANNER.quiet:
        return
    if not MANNER.is_json:
        say(f"polyb2: warning: {words}")
        return
    say(_Json().format(logging.makeLogRecord({"levelname": "WARNING", "msg": words})))


def tell_stop(number: int) -> None:
    """Say on stderr that a signal ended ``run`` or ``sync`` before or after its work; nothing with ``--quiet``."""
    if MANNER.quiet:
        return
    words = f"stopped by {signal.Signals(number).name}; nothing was under way"
    if not MANNER.is_json:
        say(f"polyb2: {words}")
        return
    stopping = log_fields(LogEvent.RUN_STOPPING, signal=number, seconds=0)
    say(_Json().format(logging.makeLogRecord({"levelname": "INFO", "msg": words, **stopping})))
