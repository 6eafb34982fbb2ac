"""The ``polyb2`` command: all sub-commands, and the one place where errors become a line and an exit code.

Imports nothing heavy: the S3 stack is loaded by the commands that talk to a store, not by ``--help`` or ``status``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from polyb2 import __version__
from polyb2.cli import bucket, coverage, datasets, demo, doctor, plan, queue, transfer
from polyb2.cli.logs import show_tracebacks
from polyb2.core.errors import Polyb2Error
from polyb2.core.scrub import scrub

EXIT_CODES = """
Exit codes: 0 done; 1 unexpected error; 2 usage or configuration; 3 ended, but files that this process attempted failed or
are parked, or verify found a difference; 4 the account or the other side stops everything; 130 / 143 interrupted.
"""

_UNEXPECTED_MAX = 300

app = typer.Typer(
    name="polyb2",
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
    _debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options before the command."""


for module in (transfer, plan, queue, coverage, datasets, bucket, doctor, demo):
    module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the contract's code."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    if debug:
        show_tracebacks()
    # A stream that the shell closed is None; what is written there is for nobody.
    sys.stdout, sys.stderr = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    signal.signal(signal.SIGTERM, _terminate)
    code = _run([word for word in words if word != "--debug"] or ["--help"], debug=debug)
    sys.exit(_flushed(code))


def _terminate(number: int, _frame: object) -> None:
    """SIGTERM ends any command as it should: what is open is closed, and the code tells. A run drains, see the engine."""
    sys.exit(128 + number)


def _run(words: list[str], *, debug: bool) -> int:
    try:
        code: Any = app(words, prog_name="polyb2", standalone_mode=False)
    except (Polyb2Error, TyperException) as error:
        if debug:
            _show(error)
        return _tell(error)
    except (KeyboardInterrupt, Abort):
        return 128 + signal.SIGINT
    except SystemExit as end:
        # The library's answer to a broken pipe; the reader, such as head, has what it wanted.
        code = 0 if isinstance(end.__context__, BrokenPipeError) else end.code
    except Exception as error:  # noqa: BLE001 - the last resort
        if debug:
            _show(error)
        what = " ".join(scrub(f"{type(error).__name__}: {error}").split())[:_UNEXPECTED_MAX]
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            # Only the output is written outside the ledger.
            _give_up_stdout()
            sys.stderr.write(f"polyb2: the output could not be written: {error.strerror}\n")
        else:
            sys.stderr.write(f"polyb2: unexpected {what}; run again with --debug and report what it shows\n")
        return 1
    return code if isinstance(code, int) else 0


def _flushed(code: int) -> int:
    """The exit code, once the output is out: a reader that went away is no error, a full disk is one."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as error:
        _give_up_stdout()
        sys.stderr.write(f"polyb2: the output could not be written: {error.strerror}\n")
        return code or 1
    return code


def _give_up_stdout() -> None:
    """What is still buffered goes nowhere, instead of failing again at the interpreter's end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show(error: Exception) -> None:
    sys.stderr.write(scrub("".join(traceback.format_exception(error))))


def _tell(error: Polyb2Error | TyperException) -> int:
    if isinstance(error, TyperException):
        sys.stderr.write(f"polyb2: {' '.join(error.format_message().split())} (see polyb2 --help)\n")
        return error.exit_code
    for line in str(error).splitlines() or [type(error).__name__]:
        sys.stderr.write(f"polyb2: {line}\n")
    return error.exit_code
