"""Log lines on stderr: one event a line, UTC, ours at the chosen level, those of the libraries only as warnings.

The libraries' debug logs hold headers and URLs with signatures, so they stay off at every level.
"""

from __future__ import annotations

import logging
import sys
import time

from rich.console import Console

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


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
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("polyb2").setLevel(level)
