"""Figures as Markdown tables, which a terminal shows as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.rounds import GIB, Run, Series

MB = 1_000_000


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))]
        for row in cells
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def wall_s(run: Run) -> float:
    return run.cost.wall_s


def cpu_s(run: Run) -> float:
    return run.cost.cpu_s


def peak_bytes(run: Run) -> float:
    return run.cost.peak_bytes


def comparison(series: Sequence[Series], total_bytes: int, files: int, *, by_file: bool) -> str:
    """Medians of every client, and the first client's as a share of each other's.

    Args:
        series: the client that is compared comes first.
        total_bytes: what each copied.
        files: how many files that was.
        by_file: CPU in milliseconds a file instead of seconds a GiB.
    """
    unit = "CPU-ms a file" if by_file else "CPU-s a GiB"
    head = ["client", "wall s", "min-max", "files/s" if by_file else "MB/s", unit, "peak MB", "requests a file"]
    own = series[0]
    head += [f"{own.client.name} / it: wall", "CPU", "memory"]
    rows = []
    for one in series:
        low, high = one.range(wall_s)
        speed = files / one.median(wall_s) if by_file else total_bytes / MB / one.median(wall_s)
        cpu = one.median(cpu_s) * 1000 / files if by_file else one.median(cpu_s) * GIB / total_bytes
        row = [one.client.name, f"{one.median(wall_s):.2f}", f"{low:.2f}-{high:.2f}", f"{speed:.0f}", f"{cpu:.2f}"]
        row += [f"{one.median(peak_bytes) / MB:.0f}", f"{one.median(lambda run: run.requests) / files:.2f}"]
        row += [_share(own, one, figure) for figure in (wall_s, cpu_s, peak_bytes)]
        rows.append(row)
    return table(head, rows)


def _share(own: Series, other: Series, figure: Callable[[Run], float]) -> str:
    return "" if other is own else f"{own.median(figure) / other.median(figure):.2f}"


def commands(series: Sequence[Series]) -> str:
    """What was started."""
    lines = [f"    {one.client.name}: {one.client.shown}" for one in series]
    proofs = {f"{count} {proof}" for one in series for run in one.runs for proof, count in run.proofs.items()}
    if proofs:
        lines += ["", f"Proofs of polyb2: {', '.join(sorted(proofs))}."]
    return "\n".join(lines)
