"""The ledger at a number of rows, in a process of its own: FOLDER ROWS CLAIMS; figures as JSON.

Enqueues as discovery does, a listing page of 1,000 a transaction; then claims and settles as a worker does, one by one.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from statistics import quantiles

from polyb2.core.keys import FileName
from polyb2.core.records import ListedObject, Mirrored
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from polyb2.ledger.sqlite.file_system import file_system_of

PAGE = 1000
DATASETS = 33
LEASE_MS = 3_600_000
DONE = Mirrored("0" * 32, None, "etag")


async def measure(folder: Path, rows: int, claims: int) -> dict[str, object]:
    """Fill a new ledger, work on it, and say what that took."""
    path = folder / f"{rows}.db"
    ledger = await open_ledger(f"sqlite:///{path}")
    before = resident_bytes()
    began_s = time.perf_counter()
    recorded = [await timed(ledger.record(page, "")) for page in pages(rows)]
    took_s = time.perf_counter() - began_s
    claiming, settling = await _work(ledger, min(claims, rows))
    status = [await timed(ledger.status()) for _ in range(20)]
    after = resident_bytes()
    await ledger.close()
    return {
        "rows": rows,
        "rows_per_s": rows / took_s,
        "page_ms": spread(recorded),
        "claim_ms": spread(claiming),
        "settle_ms": spread(settling),
        "status_ms": spread(status),
        "resident_bytes": after,
        "grown_bytes": after - before,
        "file_bytes": path.stat().st_size,
        "place": _place(path),
    }


async def _work(ledger: Ledger, count: int) -> tuple[list[float], list[float]]:
    """Claim and complete so many files; milliseconds of each."""
    worker = await ledger.register("benchmark", LEASE_MS)
    claiming, settling = [], []
    for _ in range(count):
        began_s = time.perf_counter()
        claim = next(iter(await ledger.claim_up_to(worker, 1)), None)
        claiming.append((time.perf_counter() - began_s) * 1000)
        if claim is None:
            raise RuntimeError("there is a row to claim")
        settling.append(await timed(ledger.complete(claim, DONE, 1)))
    return claiming, settling


def _place(path: Path) -> str:
    """What the figures depend on: file system, journal, SQLite."""
    place = file_system_of(path)
    with closing(sqlite3.connect(path)) as database:
        mode = database.execute("PRAGMA journal_mode").fetchone()[0]
    kind = place.kind if place else "an unknown file system"
    return f"{kind}, journal mode {mode}, synchronous=FULL, SQLite {sqlite3.sqlite_version}"


async def timed(doing: Awaitable[object]) -> float:
    """Milliseconds that it takes."""
    began = time.perf_counter()
    await doing
    return (time.perf_counter() - began) * 1000


def spread(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    if len(values) == 1:
        return values[0], values[0]
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def resident_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def pages(rows: int) -> Iterator[list[Discovered]]:
    """Rows as a listing shows them: dataset by dataset, day by day."""
    page: list[Discovered] = []
    days = -(-rows // DATASETS)
    for number in range(rows):
        name = FileName(f"us_stocks_sip/set{number // days:02}_v1", date(1940, 1, 1) + timedelta(days=number % days))
        page.append(Discovered(name, ListedObject(name.key, 20_000 + number % 977, f"{number:032x}", 0)))
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
