"""State of the whole process: the standard streams and signals that it inherits, and its garbage collector.

Cron wrappers, supervisors and ``<&-`` leave descriptors 0 to 2 closed. The next file or socket would get such a number: libuv
aborts on it, and whatever is printed later would go there. A supervisor that blocks SIGTERM around its own fork hands the
block down, and a run would never hear of its drain.

The collector is off while the program loads, as nothing that loading makes is garbage and looking through it took a fifth of
the start; it is on while a command works.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

YOUNG_OBJECTS = 10_000
"""Objects beyond those that were freed before the collector of a run looks at the young ones: 0.5 MB or so."""
_STREAMS = ("stdin", "stdout", "stderr")


def put_right(*stopping: signal.Signals) -> None:
    """Open ``/dev/null`` for closed standard streams, outlive the terminal, and unblock the signals that stop a process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
    for descriptor, name in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # without a /dev there is nothing to open
                # The lowest free number is this one, as those below it are open by now.
                os.open(os.devnull, os.O_RDWR)
                setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8"))  # noqa: PTH123, SIM115
    sys.stdout, sys.stderr = outliving_terminal(sys.stdout), outliving_terminal(sys.stderr)


def outliving_terminal(stream: TextIO) -> TextIO:
    """The stream, or one in its place that can be written to when its terminal has gone away."""
    try:
        if not stream.isatty():
            return stream
        raw = _Terminal(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError, AttributeError):  # closed, or none at all
        return stream
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


class _Terminal(io.FileIO):
    """Writes to a terminal, and to nowhere once that is gone: a window that is closed is no reason to fail."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, self.fileno(), inheritable=False)
        os.close(nowhere)
        return memoryview(data).nbytes


def begin_loading() -> None:
    """Put the collector off while the program loads."""
    gc.disable()


def end_loading() -> None:
    """Let the collector work from now on; what is loaded stays to the end and is not looked through again and again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextmanager
def spared_collector() -> Iterator[None]:
    """Let the collector of a run look at what comes and goes, and not over and over at all modules."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
