"""``doctor``: the preflight, as a list to read and as JSON."""

from __future__ import annotations

import json

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging, tell_failure
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.verdict import ending_with
from polyb2.core.errors import UsageError
from polyb2.doctor.checks import Checkup, Level

STOPPED = 4


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: polyb2 doctor    or, for scripts: polyb2 doctor --json")(doctor)


def doctor(as_json: o.Json = False) -> None:
    """Preflight: network, clocks, keys, plan, bucket, ledger; what is wrong, and what to do. Leaves nothing in the bucket."""
    checkup = _examine()
    failure = checkup.failure
    with ending_with(0 if failure is None else STOPPED):
        if as_json:
            typer.echo(json.dumps(checkup.as_json(), indent=2))
        else:
            from polyb2.cli.show.output import print_checkup

            print_checkup(checkup)
        if failure is not None:
            tell_failure(f"{failure.name}: {'; '.join(filter(None, (failure.found, failure.advice)))}", STOPPED)


def _examine() -> Checkup:
    try:
        settings = configured()
    except UsageError as error:
        checkup = Checkup()
        for line in str(error).splitlines():
            name, _, found = line.partition(": ")
            checkup.add("polyb2.settings", Level.FAIL, f"{name} {found}", "correct it in the environment or .env")
        return checkup
    set_up_logging("ERROR")
    from polyb2.doctor.examine import examine

    return in_loop(examine(settings))
