"""Log lines on stderr: one event a line, UTC, ours at the chosen level, those of the libraries only as warnings.

The libraries' debug logs hold headers and URLs with signatures, so they stay off at every level, and every line is scrubbed.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from rich.console import Console

from polyb2.core.scrub import scrub

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Formatter(logging.Formatter):
    """One line an event; what an error was, and its traceback with ``--debug`` only."""

    tracebacks = False
    converter = staticmethod(time.gmtime)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - the library's
        return super().formatException(ei) if self.tracebacks else f"{ei[0].__name__} (--debug shows the traceback)"

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return scrub(line if self.tracebacks else " ".join(line.splitlines()))


def show_tracebacks() -> None:
    """From now on, log lines about errors carry their tracebacks."""
    _Formatter.tracebacks = True


class _Handler(logging.Handler):
    """Writes through the console while a live display owns the terminal, so that lines do not tear it."""

    console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if self.console is not None:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def set_up_logging(level: str, console: Console | None = None) -> None:
    """Send our log lines to stderr, or through ``console`` while it shows a live display."""
    handler = _Handler()
    handler.console = console
    handler.setFormatter(_Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("polyb2").setLevel(level)
