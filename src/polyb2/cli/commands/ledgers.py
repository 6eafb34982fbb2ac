"""``ledger``: a ledger as a whole: copied into another store, brought up to date, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, opened_ledger, write_json
from polyb2.cli.loop import in_loop
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.units import OneOf

if TYPE_CHECKING:
    from polyb2.ledger.copy import Copied
    from polyb2.ledger.rows import Check

_ACTIONS = ("copy", "migrate", "check")


def _read_url(text: str) -> str:
    from polyb2.ledger.open import check_url

    return check_url(text)


@command("polyb2 ledger copy --to 'postgresql://polyb2@db.example/polyb2?sslmode=verify-full&sslrootcert=system'")
def ledger(
    action: Annotated[
        str,
        typer.Argument(
            metavar="|".join(_ACTIONS),
            parser=o.read("ledger", OneOf(_ACTIONS)),
            autocompletion=lambda: list(_ACTIONS),
            help="copy: into the ledger --to; migrate: bring the schema up to date; check: look for damage.",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            parser=o.read("--to", _read_url),
            help="Where a copy goes, written like DATABASE_URL; empty yet.",
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Copy the ledger to another database, bring its schema up to date, or check it; exit 3 where check or copy differ."""
    if (action == "copy") != (to is not None):
        raise UsageError("--to URL goes with polyb2 ledger copy, which needs it")
    if to is not None:
        _copy(to, as_json=as_json)
    elif action == "migrate":
        _migrate(as_json=as_json)
    else:
        _check(as_json=as_json)


def _copy(to: str, *, as_json: bool) -> None:
    from polyb2.cli.output.ledger_view import print_copied

    copied = in_loop(_copied(configured().ledger.url, to))
    with ending_with(ExitCode.DONE if copied.equal else ExitCode.UNFINISHED):
        if as_json:
            write_json(copied.as_json())
        else:
            print_copied(copied)


async def _copied(url: str, to: str) -> Copied:
    from polyb2.ledger.open import are_same, open_ledger

    if are_same(url, to):
        raise UsageError("--to is the ledger that DATABASE_URL names: name another one")
    source = await open_ledger(url, read_only=True)
    try:
        if not source.exists:
            raise UsageError(f"there is no ledger at {source.place} to copy: that is where DATABASE_URL points")
        target = await open_ledger(to, unfinished=True)
        try:
            return await source.copy_to(target)
        finally:
            await target.close()
    finally:
        await source.close()


def _migrate(*, as_json: bool) -> None:
    from polyb2.cli.output.ledger_view import print_migrated

    found = in_loop(_migrated(configured().ledger.url))
    if as_json:
        write_json(found)
    else:
        print_migrated(found)


async def _migrated(url: str) -> dict[str, Any]:
    from polyb2.ledger.open import open_ledger, schema_version

    before = await schema_version(url)
    ledger = await open_ledger(url)
    await ledger.close()
    return {"ledger": ledger.place, "from": before or None, "to": await schema_version(url)}


def _check(*, as_json: bool) -> None:
    from polyb2.cli.output.ledger_view import print_ledger_checks
    from polyb2.doctor.checks import Checkup

    place, checks = in_loop(_checked())
    checkup = Checkup(checks)
    with ending_with(ExitCode.DONE if checkup.failure is None else ExitCode.UNFINISHED):
        if as_json:
            write_json({"ledger": place, **checkup.as_json()})
        else:
            print_ledger_checks(place, checkup)


async def _checked() -> tuple[str, list[Check]]:
    async with opened_ledger(configured()) as ledger:
        if not ledger.exists:
            raise UsageError(f"there is no ledger at {ledger.place} to check: that is where DATABASE_URL points")
        return ledger.place, await ledger.check()
