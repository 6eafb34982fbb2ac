"""The standard streams, made safe to write to: closed ones lead nowhere, and so does a terminal once it went away."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STANDARD = range(3)


def secure() -> None:
    """Make the three descriptors exist, and stdout and stderr survive the end of their terminal.

    A descriptor that is closed would be given to the next file or connection, and then be written to as stdout.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest one that is free, which is this
    sys.stdout, sys.stderr = _secured(sys.stdout), _secured(sys.stderr)


def _secured(stream: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    try:
        if not stream.isatty():
            return stream
        raw = _Terminal(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
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
