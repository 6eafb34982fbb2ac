"""The console of every result: plain text that aligns, colour only where the terminal has it, nothing foreign unescaped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from polyb2.cli.logs import OUTPUT
from polyb2.core.scrub import shown
from polyb2.core.status import Status

NAMED_MAX = 20
PIPE_COLUMNS = 240
COLOURS = {
    Status.COMPLETED: "green",
    Status.PROCESSING: "cyan",
    Status.FAILED_DOWNLOAD: "yellow",
    Status.FAILED_UPLOAD: "yellow",
    Status.PERMANENT_FAILURE: "red",
    Status.NOT_ENTITLED: "magenta",
}


class SafeConsole(Console):
    """A console without markup or guessing, whose text is scrubbed and escaped after it was laid out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


def console(*, asked: bool = True) -> Console:
    """Stdout, without markup or guessing at values; nothing is cut to fit where no terminal is.

    Args:
        asked: the result is what the command is for; without it ``--quiet`` keeps it back.
    """
    piped = not sys.stdout.isatty()
    return SafeConsole(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=piped,
        width=PIPE_COLUMNS if piped else None,
        quiet=OUTPUT.quiet and not asked,
    )


def line_printer(*, asked: bool = True) -> Callable[[str], object]:
    """Prints lines, of which there may be very many: a console lays out each as a page of its own."""
    out = console(asked=asked)
    if out.is_terminal or out.quiet:
        return out.print
    return lambda words: sys.stdout.write(f"{shown(words)}\n")


def print_line(words: str) -> None:
    """Print a line about what a command did; ``--quiet`` keeps it back."""
    console(asked=False).print(words)


def print_named(out: Console, words: str, names: list[str], command: str = "", *, total: int | None = None) -> None:
    """A line a name, the first twenty of ``total``; ``command`` has a ``--json`` that names all of ``names``."""
    for name in names[:NAMED_MAX]:
        out.print(f"{words} {name}")
    if len(names) > NAMED_MAX:
        rest = f" (polyb2 {command} --json names them)" if command else ""
        out.print(f"{words} {(total or len(names)) - NAMED_MAX} more{rest}")


def indented(words: str) -> Padding:
    """Words below the line that they explain, wrapped where they have to be."""
    return Padding(Text(words, style="dim"), (0, 0, 0, 4))


def table(*columns: str, right: tuple[str, ...] = (), gap: int = 2) -> Table:
    """A plain table; the columns named in ``right`` hold figures, ``gap`` spaces lie between columns."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True, overflow="fold")
    return made


def print_table(out: Console, made: Table) -> None:
    """Print a table at its own width: a line that a narrow terminal wraps reads better than a figure that is cut off."""
    before = out.width
    out.width = max(before, Measurement.get(out, out.options.update(max_width=PIPE_COLUMNS), made).maximum)
    out.print(made)
    out.width = before


def dataset_table(out: Console, figures: tuple[str, ...], rows: Iterable[tuple[str, list[str | Text]]]) -> Table:
    """Figures by dataset; where the terminal is narrow a dataset is two lines, its prefix above its type."""
    rows = list(rows)
    made = table("dataset", *figures, right=figures)
    for dataset, values in rows:
        made.add_row(dataset, *values)
    if made.__rich_measure__(out, out.options.update(width=PIPE_COLUMNS)).maximum <= out.width:
        return made
    narrow = table("dataset", *figures, right=figures, gap=1)
    above = ""
    for dataset, values in rows:
        prefix, slash, kind = dataset.partition("/")
        if slash and prefix != above:
            narrow.add_row(prefix)
        above = prefix if slash else ""
        narrow.add_row(f"  {kind}" if slash else dataset, *values)
    return narrow
