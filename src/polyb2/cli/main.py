"""The ``polyb2`` command: the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Any

from typer.exceptions import Abort, TyperException

from polyb2 import descriptors
from polyb2.cli.app import app, give_up_stdout
from polyb2.cli.commands import checking, demo, ledgers, looking, mirroring, queueing
from polyb2.cli.logs import OUTPUT, print_failure, say
from polyb2.core.errors import Polyb2Error
from polyb2.core.exit_codes import ExitCode
from polyb2.core.scrub import scrub
from polyb2.signals import STOPPING, Deferred, Stopped, answering

__all__ = ["app", "checking", "demo", "ledgers", "looking", "main", "mirroring", "queueing"]
_UNEXPECTED_MAX = 300


def main(arguments: list[str] | None = None, stops: Deferred | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: the command line; None takes the process's own.
        stops: requests to stop that came while the program was loaded; those that come before the command are added.
    """
    words = sys.argv[1:] if arguments is None else arguments
    stops = stops or Deferred()
    OUTPUT.reset()
    with answering(stops, *STOPPING):
        code = _flushed(_run(words, stops), stops)
    sys.exit(code)


def _run(words: list[str], stops: Deferred) -> int:
    try:
        code: Any = app(words, prog_name="polyb2", standalone_mode=False, obj=stops)
    except (Polyb2Error, TyperException) as error:
        _show(error)
        return _print_error(error)
    except (KeyboardInterrupt, Abort):
        return ExitCode.INTERRUPTED
    except Stopped as stop:
        give_up_stdout()
        return ExitCode.of_signal(stop.number)
    except SystemExit as end:
        # The library's answer to a broken pipe; the reader, such as head, has what it wanted.
        code = ExitCode.DONE if isinstance(end.__context__, BrokenPipeError) else end.code
    except Exception as error:  # noqa: BLE001 - the last resort
        _show(error)
        print_failure(_unexpected(error), ExitCode.UNEXPECTED)
        return ExitCode.UNEXPECTED
    return code if isinstance(code, int) else ExitCode.DONE


def _show(error: Exception) -> None:
    if OUTPUT.debug:
        say(scrub("".join(traceback.format_exception(error))).rstrip())


def _print_error(error: Polyb2Error | TyperException) -> int:
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "polyb2"
        lines = [f"{' '.join(error.format_message().split())} (see {where} --help)"]
    else:
        lines = str(error).splitlines() or [type(error).__name__]
    for line in lines:
        print_failure(line, error.exit_code)
    return error.exit_code


def _unexpected(error: Exception) -> str:
    """Words for an error that no part of the program expected."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # Only the output is written outside the ledger.
        give_up_stdout()
        return _unwritten(error)
    if isinstance(error, MemoryError):
        return "this process may have no more memory; raise its limit (ulimit -v, or the container's)"
    if own := descriptors.problem(error):
        return f"{own}; {descriptors.ADVICE}"
    what = " ".join(scrub(f"{type(error).__name__}: {error}").split())[:_UNEXPECTED_MAX]
    return f"unexpected {what}; run again with --debug and report what it shows"


def _unwritten(error: OSError) -> str:
    return f"the output could not be written: {error.strerror}; make room, and run it again"


def _flushed(code: int, stops: Deferred) -> int:
    """The exit code, once the output is out: a reader that went away is no error, a full disk is one.

    A reader may take nothing for as long as it likes: a signal ends the wait for it.
    """
    try:
        stops.end()
        sys.stdout.flush()
    except (OSError, KeyboardInterrupt, Stopped) as end:
        give_up_stdout()
        if isinstance(end, Stopped):
            code = ExitCode.of_signal(end.number)
        elif isinstance(end, KeyboardInterrupt):
            code = ExitCode.INTERRUPTED
        elif not isinstance(end, BrokenPipeError):
            code = code or ExitCode.UNEXPECTED
            print_failure(_unwritten(end), code)
    return code
