"""The ``polyb2`` command: all sub-commands, and the one place where errors become a line and an exit code.

Imports nothing heavy: the S3 stack is loaded by the commands that talk to a store, not by ``--help`` or ``status``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from polyb2 import __version__, descriptors
from polyb2.cli import bucket, coverage, datasets, demo, doctor, plan, queue, streams, transfer
from polyb2.cli.logs import say, tell_failure, tell_stop
from polyb2.cli.manner import FORMATS, MANNER
from polyb2.core.errors import Polyb2Error
from polyb2.core.scrub import scrub
from polyb2.signals import STOPPING, Stopped, answering

EXIT_CODES = """
Exit codes: 0 done; 1 unexpected error; 2 usage or configuration; 3 ended, but files that this process attempted failed or
are parked, verify found a difference, or coverage --require a lack; 4 the account or the other side stops everything;
129 / 130 / 143 interrupted by SIGHUP / SIGINT / SIGTERM.
"""

_UNEXPECTED_MAX = 300
_RUNNERS = frozenset({"run", "sync"})
_SHARED = {"_debug", "_quiet", "_log_format"}


class _Commands(TyperGroup):
    """All commands; each shows and completes the options of the process as its own, as they may stand behind it, too."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - the library's
        super().__init__(**attributes)
        for command in self.commands.values():
            for option in self.params:
                if option.name in _SHARED:
                    shared = copy(option)
                    shared.expose_value = False
                    command.params.append(shared)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the library's
        """Run the command; the library would make an exit code of an interrupt, which then looks like one of a drain."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None

    def format_commands(self, _ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the library's
        """List the commands, with all of their first sentence: the library cuts it to one line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(500)) for name, command in self.commands.items()])


app = typer.Typer(
    name="polyb2",
    cls=_Commands,
    help="Mirror Polygon.io (Massive) flat files into a Backblaze B2 bucket: streamed, resumable, proven byte for byte."
    "\n\nFirst: polyb2 discover --dates 2024-01-02, then polyb2 run --concurrency 32. "
    "To try without an account: polyb2 demo.",
    epilog=EXIT_CODES,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"polyb2 {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing but errors, and what was asked for (status, --json ...).")
    ] = False,
    _log_format: Annotated[
        str,
        typer.Option(
            "--log-format",
            metavar="text|json",
            help="Log lines for people, or an object a line for programs.",
            autocompletion=lambda: list(FORMATS),
            show_default=False,
        ),
    ] = FORMATS[0],
    _debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options of every command, before or after it; see ``cli/manner.py``."""


for module in (transfer, plan, queue, coverage, datasets, bucket, doctor, demo):
    module.register(app)


def main(arguments: list[str] | None = None, stops: Sequence[int] = ()) -> None:
    """Run the command line and exit with the contract's code.

    Args:
        arguments: the command line; None takes the process's own.
        stops: signals that asked to stop while the program was loaded.
    """
    words = sys.argv[1:] if arguments is None else arguments
    streams.secure()
    with answering(_terminate, *STOPPING):
        code = _flushed(_run(words, stops))
    sys.exit(code)


def _terminate(number: int) -> None:
    """End a command by SIGTERM or SIGHUP: what is open is closed, and the code tells. A run drains, see the engine."""
    raise Stopped(number)


def _stopped(number: int, words: list[str]) -> int:
    """The code of a command that a signal ended outside the engine; ``run`` and ``sync`` say so, as of a drain."""
    if not _RUNNERS.intersection(words):
        return 128 + number
    tell_stop(number)
    return 0 if "--watch" in words else 128 + number


def _run(words: list[str], stops: Sequence[int]) -> int:
    try:
        left = MANNER.take(words)
        if stops:
            return _stopped(stops[0], words)
        code: Any = app(left or ["--help"], prog_name="polyb2", standalone_mode=False)
    except (Polyb2Error, TyperException) as error:
        if MANNER.debug:
            _show(error)
        return _tell(error)
    except (KeyboardInterrupt, Abort):
        return 128 + signal.SIGINT
    except Stopped as stop:
        return _stopped(stop.number, words)
    except SystemExit as end:
        # The library's answer to a broken pipe; the reader, such as head, has what it wanted.
        code = 0 if isinstance(end.__context__, BrokenPipeError) else end.code
    except Exception as error:  # noqa: BLE001 - the last resort
        if MANNER.debug:
            _show(error)
        _tell_unexpected(error)
        return 1
    return code if isinstance(code, int) else 0


def _tell_unexpected(error: Exception) -> None:
    what = " ".join(scrub(f"{type(error).__name__}: {error}").split())[:_UNEXPECTED_MAX]
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # Only the output is written outside the ledger.
        _give_up_stdout()
        tell_failure(f"the output could not be written: {error.strerror}; make room, and run it again", 1)
    elif isinstance(error, MemoryError):
        tell_failure("this process may have no more memory; raise its limit (ulimit -v, or the container's)", 1)
    elif own := descriptors.problem(error):
        tell_failure(f"{own}; {descriptors.ADVICE}", 1)
    else:
        tell_failure(f"unexpected {what}; run again with --debug and report what it shows", 1)


def _flushed(code: int) -> int:
    """The exit code, once the output is out: a reader that went away is no error, a full disk is one."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as error:
        _give_up_stdout()
        tell_failure(f"the output could not be written: {error.strerror}; make room, and run it again", code or 1)
        return code or 1
    return code


def _give_up_stdout() -> None:
    """What is still buffered goes nowhere, instead of failing again at the interpreter's end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show(error: Exception) -> None:
    say(scrub("".join(traceback.format_exception(error))).rstrip())


def _tell(error: Polyb2Error | TyperException) -> int:
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "polyb2"
        tell_failure(f"{' '.join(error.format_message().split())} (see {where} --help)", error.exit_code)
        return error.exit_code
    for line in str(error).splitlines() or [type(error).__name__]:
        tell_failure(line, error.exit_code)
    return error.exit_code
