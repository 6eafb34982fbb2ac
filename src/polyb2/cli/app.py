"""The command line as a whole: what every command has, and how one is declared.

Imports nothing heavy, so that ``--help`` and the completion of a shell answer at once: a command imports in its body.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from polyb2 import __version__
from polyb2.cli.logs import OUTPUT, print_stop, print_warning, set_up_logging
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.logevents import FORMATS
from polyb2.signals import Stopped

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.ledger.ledger import Ledger

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_ORDER = (
    *("discover", "run", "sync", "plan", "status", "files", "retry", "unqueue", "verify", "coverage", "datasets"),
    *("doctor", "cleanup", "ledger", "rebind", "demo"),
)
_RUNNERS = frozenset({"run", "sync"})
_OUTPUT = frozenset({"quiet", "debug", "log_format"})


@contextmanager
def _parsing(ctx: Any, args: list[str]) -> Iterator[None]:  # noqa: ANN401 - the library's
    """Take the options of output even off a command line that is wrong, wherever they stand: they say how to report that."""
    words = list(args)
    try:
        yield
    except TyperException:
        ctx.resilient_parsing = ctx.ignore_unknown_options = True
        parser = ctx.command.make_parser(ctx)
        # The parser ends at the first wrong word: it gets each with the one behind it, which may be its value.
        for number in range(len(words)):
            given, _, _ = parser.parse_args(words[number : number + 2])
            OUTPUT.set(**{name: given[name] for name in _OUTPUT & given.keys()})
        raise


class _Parsed:
    """What commands and their group have in common."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the library's
        with _parsing(ctx, args):
            return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the library's
        ctx.obj.end()  # no command follows that would have an answer to a signal
        super().format_help(ctx, formatter)  # type: ignore[misc]


class _Command(_Parsed, TyperCommand):
    """A command; a signal ends it, and what is open is closed. A run drains, see the engine."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the library's
        """Run the command. The library would make its own exit code of an interrupt."""
        try:
            ctx.obj.end()
            return super().invoke(ctx)
        except (Stopped, KeyboardInterrupt) as stop:
            give_up_stdout()
            number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
            if ctx.info_name not in _RUNNERS:
                return ExitCode.of_signal(number)
            print_stop(number)
            return ExitCode.DONE if ctx.params["watch"] else ExitCode.of_signal(number)


def give_up_stdout() -> None:
    """Send what is still buffered nowhere, instead of failing or waiting again at the end of the process."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Commands(_Parsed, TyperGroup):
    """All commands; each shows and completes the options of output as its own, as they may stand behind it, too."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - the library's
        super().__init__(**attributes)
        if odd := self.commands.keys() ^ set(_ORDER):
            words = "_ORDER and the declared commands differ (is a module not imported in cli/main.py?)"
            raise AssertionError(f"{words}: {', '.join(sorted(odd))}")
        self.commands = {name: self.commands[name] for name in _ORDER}
        for shared in [copy(option) for option in self.params if option.name in _OUTPUT]:
            shared.expose_value = False
            for item in self.commands.values():
                item.params.append(shared)
        for item in self.commands.values():
            for argument in item.params:
                if argument.param_type_name == "argument":
                    # The library would put its type, in Python's words, behind its name.
                    argument.display_type_rich = lambda ctx: None  # type: ignore[attr-defined]  # noqa: ARG005

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - the library's
        with _parsing(ctx, args):
            return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the library's
        """List the commands, with all of their first sentence: the library cuts it to one line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, item.get_short_help_str(500)) for name, item in self.commands.items()])


app = typer.Typer(
    name="polyb2",
    cls=_Commands,
    help="Mirror Polygon.io (Massive) flat files into a Backblaze B2 bucket: streamed, resumable, proven byte for byte."
    "\n\nFirst: polyb2 discover --dates 2024-01-02, then polyb2 run --concurrency 32. "
    "To try without an account: polyb2 demo.",
    epilog=f"Exit codes: {'; '.join(f'{code} {code.meaning}' for code in ExitCode)}.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.obj.end()
        typer.echo(f"polyb2 {__version__}")
        raise typer.Exit


def _output(param: typer.CallbackParam, value: Any) -> None:  # noqa: ANN401 - of an option
    OUTPUT.set(**{str(param.name): value})


@app.callback(invoke_without_command=True)
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_output, is_eager=True,
            help="Nothing but errors, and what was asked for (status, --json ...).",
        ),
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format", metavar="|".join(FORMATS), callback=_output, is_eager=True,
            help="Log lines for people, or an object a line for programs.", autocompletion=lambda: list(FORMATS),
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", callback=_output, is_eager=True, help="Show a traceback when something fails."),
    ] = False,
) -> None:  # fmt: skip
    """Options of every command, before or after it; without one, the help."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def command(example: str) -> Callable[[F], F]:
    """Declare a command: its name, options and help are the function's, and ``example`` stands below them.

    A parameter whose type is a bundle of options, a dataclass of ``cli/options.py``, stands for those options.
    """

    def declare(function: F) -> F:
        app.command(cls=_Command, epilog=f"Example: {example}")(_unbundled(function))
        return function

    return declare


def _unbundled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the options of its bundles as parameters of its own, from which the library makes options."""
    signature = inspect.signature(function, eval_str=True)
    parameters = signature.parameters
    bundles: dict[str, Any] = {
        name: item.annotation for name, item in parameters.items() if is_dataclass(item.annotation)
    }
    bundled = {name: inspect.signature(bundle, eval_str=True).parameters for name, bundle in bundles.items()}

    @wraps(function)
    def unbundled(**given: Any) -> Any:  # noqa: ANN401 - of any command
        made = {
            name: bundle(**{option: given.pop(option) for option in bundled[name]}) for name, bundle in bundles.items()
        }
        return function(**made, **given)

    others = [item for name, item in parameters.items() if name not in bundles]
    options = [option for found in bundled.values() for option in found.values()]
    unbundled.__signature__ = signature.replace(parameters=[*options, *others])  # type: ignore[attr-defined]
    return unbundled


def configured(**overrides: object) -> Settings:
    """The settings of this process, with its output set up by them; what is odd about the variables is printed first.

    Raises:
        UsageError: a line for each wrong setting.
    """
    from polyb2.config import load_settings, setting_notices

    settings: Settings | None = None
    try:
        settings = load_settings(**overrides)
        OUTPUT.log_format = OUTPUT.log_format or settings.log.format
    finally:
        for words in setting_notices():
            print_warning(words)
    set_up_logging(settings.log.level)
    return settings


@asynccontextmanager
async def opened_ledger(settings: Settings, *, read_only: bool = True) -> AsyncIterator[Ledger]:
    """The ledger, without either store; opened for changes, it has to exist.

    Raises:
        UsageError: there is none to change.
    """
    from polyb2.ledger.open import open_ledger

    ledger = await open_ledger(settings.ledger.url, read_only=read_only, make_new=False)
    try:
        if not read_only and not ledger.exists:
            raise UsageError(f"there is no ledger at {ledger.place} yet: run polyb2 discover first")
        yield ledger
    finally:
        await ledger.close()


def write_json(result: dict[str, Any]) -> None:
    typer.echo(json.dumps(result, indent=2))


@contextmanager
def ending_with(code: ExitCode) -> Iterator[None]:
    """Print the outcome within the block; the command then ends with ``code``.

    Invariant: what is printed changes nothing about the code, not even where its reader, such as ``head``, left early.

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


def outliving_reader(show: Callable[[T], object]) -> Callable[[T], None]:
    """Print, but ignore a reader that went away, so that the work still finishes."""

    def show_or_not(found: T) -> None:
        with suppress(BrokenPipeError):
            show(found)

    return show_or_not
