"""The ledger at 10^4, 10^5 and 10^6 rows: see ``queue.py``, which is what runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import CLIENT_CORE, on_core
from benchmarks.rounds import BenchmarkError, say
from benchmarks.scenarios import Options
from benchmarks.tables import MB, table

ROWS = (10_000, 100_000, 1_000_000)
CLAIMS = 2_000
_HEAD = (
    "rows",
    "enqueue rows/s",
    "page of 1,000 ms",
    "claim ms",
    "settle ms",
    "status ms",
    "resident MB",
    "of it new",
    "file MB",
)


def ledger(options: Options) -> str:
    """Each size in a new file and a new process."""
    found = [_measure(options.folder, max(1, int(rows * options.scale))) for rows in ROWS]
    rows = [
        [
            f"{one['rows']:,}",
            f"{one['rows_per_s']:,.0f}",
            *(_spread(one[name]) for name in ("page_ms", "claim_ms", "settle_ms", "status_ms")),
            *(f"{one[name] / MB:.0f}" for name in ("resident_bytes", "grown_bytes", "file_bytes")),
        ]
        for one in found
    ]
    return (
        f"On {found[-1]['place']}. Times: median / 99th percentile; {CLAIMS:,} claims and settlements one by one."
        f"\n\n{table(_HEAD, rows)}"
    )


def _measure(folder: Path, rows: int) -> dict[str, Any]:
    say(f"  {rows:,} rows")
    words = [sys.executable, "-m", "benchmarks.micro.queue", str(folder), str(rows), str(CLAIMS)]
    with on_core(CLIENT_CORE):
        done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BenchmarkError(done.stderr[-2000:])
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _spread(pair: list[float]) -> str:
    return f"{pair[0]:.2f} / {pair[1]:.2f}"
