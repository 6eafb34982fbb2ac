"""The end of a command whose exit code says how it went.

Invariant: what is printed changes nothing about the code, not even where its reader, such as ``head``, went away early.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from polyb2.cli.logs import tell_failure

UNKNOWN_KEY = 3


@contextmanager
def ending_with(code: int) -> Iterator[None]:
    """Print the outcome within the block; the command then ends with ``code``.

    Raises:
        typer.Exit: ``code`` is not 0.
    """
    try:
        yield
    except (BrokenPipeError, SystemExit) as end:
        # rich, too, answers a broken pipe by an exit, and has its own code for it.
        gone = isinstance(end, BrokenPipeError) or isinstance(end.__context__, BrokenPipeError)
        if not (gone and code):
            raise
    if code:
        raise typer.Exit(code)


def tell_unknown_key(key: str) -> None:
    """Say that the ledger does not have a key that was named; the command ends with ``UNKNOWN_KEY``."""
    tell_failure(f"the ledger has no {key}: run polyb2 discover for its date and dataset", UNKNOWN_KEY)
