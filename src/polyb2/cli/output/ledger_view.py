"""Results of ``ledger``, for people."""

from __future__ import annotations

from typing import Any

from polyb2.cli.output.console import console, print_table, table
from polyb2.cli.output.results import print_checks
from polyb2.doctor.checks import Checkup
from polyb2.ledger.copy import Copied

_DIGITS = 16


def print_copied(copied: Copied) -> None:
    """Rows by table on both sides, and what to do next."""
    out = console(asked=False)
    made = table("table", "rows", "copied", "", right=("rows", "copied"))
    for found in copied.tables:
        made.add_row(found.table, str(found.rows), str(found.rows_copied), "equal" if found.equal else "differs")
    print_table(out, made)
    if not copied.equal:
        out.print(
            f"{copied.target} differs from {copied.source}, which may have been used meanwhile; it stays unfinished: "
            "stop what works with either, and copy again"
        )
        return
    out.print(
        f"{copied.rows} rows copied to {copied.target}, counts and checksums are equal ({copied.checksum[:_DIGITS]})"
    )
    out.print(f"set DATABASE_URL to it everywhere, and start nothing with {copied.source} any more: it stays as it was")


def print_migrated(found: dict[str, Any]) -> None:
    """The version of the schema before and now."""
    words = f"brought from schema {found['from']} to {found['to']}"
    if found["from"] is None:
        words = f"made, schema {found['to']}"
    elif found["from"] == found["to"]:
        words = f"up to date, schema {found['to']}"
    console(asked=False).print(f"{found['ledger']}: {words}")


def print_ledger_checks(place: str, checkup: Checkup) -> None:
    """A line a check, and the sum of them."""
    out = console()
    print_checks(out, checkup)
    out.print(f"{place}: {'sound' if checkup.failure is None else 'not sound'}")
