"""Commands of polyb2 by themselves: what starting them costs, and a discovery of 100,000 keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import files
from benchmarks.clients import environment_of
from benchmarks.pair import Conditions, Pair, open_pair
from benchmarks.processes import Cost, run_client
from benchmarks.rounds import BenchmarkError
from benchmarks.scenarios import Options
from benchmarks.tables import MB, table

KEYS = 100_000
_POLYB2 = (sys.executable, "-m", "polyb2")
_LOCAL = ("--help", "--version", "status", "files", "retry", "unqueue", "coverage", "datasets")
_REMOTE = ("plan", "discover", "verify", "cleanup")


def startup(options: Options) -> str:
    """CPU of each command over a bare Python, with an empty source."""
    with TemporaryDirectory() as name, open_pair(Conditions(files.small(0.001))) as pair:
        folder = Path(name)
        bare = _median(options.rounds, [sys.executable, "-c", "pass"], pair, folder)
        rows = [["python -c pass", f"{bare[0]:.3f}", "", f"{bare[1]:.3f}", f"{bare[2] / MB:.0f}"]]
        for command in _commands(pair, folder):
            words = [*_POLYB2, command, *(["--dry-run"] if command == "cleanup" else [])]
            cpu_s, wall_s, peak = _median(options.rounds, words, pair, folder)
            shown = [f"{cpu_s:.3f}", f"{cpu_s - bare[0]:.3f}", f"{wall_s:.3f}", f"{peak / MB:.0f}"]
            rows.append([f"polyb2 {command}", *shown])
    head = ["command", "CPU-s", "over a bare Python", "wall s", "peak MB"]
    return f"Medians of {options.rounds}, after one that warms the page cache. A ledger of five files.\n\n{table(head, rows)}"


def discovery(options: Options) -> str:
    """Listing 100,000 keys into a new ledger, and again when all are known."""
    wanted = files.many(max(33, int(KEYS * options.scale)))
    rows = []
    command = [*_POLYB2, "discover", "--historical", "--yes", "--dataset", "*/*"]
    with TemporaryDirectory() as name, open_pair(Conditions(wanted)) as pair:
        for what in ("into a new ledger", "all known"):
            cost = _once(command, pair, Path(name))
            keys_per_s = len(wanted) / cost.wall_s
            rows.append(
                [what, f"{cost.wall_s:.2f}", f"{cost.cpu_s:.2f}", f"{keys_per_s:,.0f}", f"{cost.peak_bytes / MB:.0f}"]
            )
    return f"{len(wanted):,} keys.\n\n{table(['discovery', 'wall s', 'CPU-s', 'keys/s', 'peak MB'], rows)}"


def _commands(pair: Pair, folder: Path) -> Sequence[str]:
    """Those that this version has, on a ledger that exists."""
    _once([*_POLYB2, "discover", "--historical", "--dataset", "*/*"], pair, folder)
    known = _once([*_POLYB2, "--help"], pair, folder).output
    return [command for command in (*_LOCAL, *_REMOTE) if command in known]


def _median(rounds: int, command: Sequence[str], pair: Pair, folder: Path) -> tuple[float, float, float]:
    costs = [_once(command, pair, folder) for _ in range(rounds + 1)][1:]
    return (
        median(cost.cpu_s for cost in costs),
        median(cost.wall_s for cost in costs),
        median(cost.peak_bytes for cost in costs),
    )


def _once(command: Sequence[str], pair: Pair, folder: Path) -> Cost:
    cost = run_client(command, environment_of(pair, folder), folder)
    if cost.code not in {0, 3}:
        raise BenchmarkError(f"{' '.join(command)} ended with {cost.code}: {cost.output[-2000:]}")
    return cost
