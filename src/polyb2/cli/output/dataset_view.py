"""The catalogue, a line a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from polyb2.cli.output.console import console, print_table, table
from polyb2.core.status import Status
from polyb2.core.units import format_size

if TYPE_CHECKING:
    from polyb2.flow.inspect.datasets import Entry

_READABLE = {
    "all": ("all of it", "green"),
    "recent": ("newest, not oldest", "yellow"),
    "none": ("not in the plan", "magenta"),
    "unlisted": ("not listed", "dim"),
}


def print_entries(entries: list[Entry], *, probed: bool) -> None:
    """A line a dataset; those that the settings choose have a star."""
    columns = ["keys may read", "listed"] if probed else ["from", "a day", "mirrored", "bytes"]
    made = table("  dataset", *columns, right=() if probed else tuple(columns))
    for entry in entries:
        made.add_row(
            f"{'*' if entry.chosen else ' '} {entry.dataset}",
            *(_probe_cells(entry) if probed else _known_cells(entry)),
        )
    out = console()
    print_table(out, made)
    out.print("* chosen by POLYB2_DATASETS")


def _known_cells(entry: Entry) -> tuple[str, str, str, str]:
    known, held = entry.documented, entry.held
    first, day = (known.first.isoformat(), _sizes(known.day_bytes)) if known else ("-", "-")
    if not held.files:
        return first, day, "", ""
    return first, day, f"{held.by_status[Status.COMPLETED]['files']} of {held.files}", format_size(held.bytes)


def _sizes(day_bytes: tuple[int, int]) -> str:
    """``27-30 MB``, or one figure where the least is the most."""
    (least, unit), (most, unit_of_most) = (format_size(size).split() for size in day_bytes)
    least, most = least.removesuffix(".0"), most.removesuffix(".0")
    if (least, unit) == (most, unit_of_most):
        return f"{most} {unit}"
    return f"{least}{'' if unit == unit_of_most else ' ' + unit}-{most} {unit_of_most}"


def _probe_cells(entry: Entry) -> tuple[Text, Text]:
    from polyb2.flow.inspect.entitlement import date_words

    found = entry.entitlement
    if found is None:
        return Text(entry.problem or "", style="red"), Text("")
    span = f"{date_words(found.oldest)}..{date_words(found.newest)}" if found.oldest and found.newest else ""
    words, style = _READABLE[found.readable]
    return Text(words, style=style), Text(span)
