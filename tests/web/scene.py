"""A mirror in the middle of its work, for pictures of the page: a year of days, some of them in trouble, files under way."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from polyb2.config import Settings
from polyb2.core.calendar import closed
from polyb2.core.schedule import Schedule
from polyb2.core.selection import DateRange, Mode, Selection
from polyb2.engine import RunOptions, RunResult, run
from polyb2.flow.discover.consent import Consent, discover
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.sandbox import Answer, Fault, GeneratedGzip, Sandbox
from polyb2.sandbox.objects import csv_gz
from polyb2.session import open_mirror
from tests.conftest import MIB, key

NOW = "2026-11-20T16:40:00+00:00"
TODAY = date(2026, 11, 20)
FIRST = date(2026, 1, 2)
STOCKS, OPTIONS, MINUTES = "us_stocks_sip/day_aggs_v1", "us_options_opra/day_aggs_v1", "us_stocks_sip/minute_aggs_v1"
TRADES, INDICES = "us_stocks_sip/trades_v1", "us_indices/day_aggs_v1"
LATE = {(MINUTES, TODAY - timedelta(days=1)), (MINUTES, TODAY - timedelta(days=2))}
MISSING = {(STOCKS, date(2026, 3, 12)), (MINUTES, date(2026, 6, 3)), (MINUTES, date(2026, 6, 4))}
BROKEN = (MINUTES, date(2026, 11, 10))
REPLACED = (STOCKS, date(2026, 11, 12))
LARGE_BYTES = 220 * MIB


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def fill(box: Sandbox) -> None:
    """A year of small files, two weeks of large ones, an index outside the plan."""
    box.source.entitled = lambda name: not name.startswith("us_indices/")
    for dataset in (STOCKS, OPTIONS, MINUTES):
        for day in days(dataset, FIRST):
            if (dataset, day) not in LATE | MISSING:
                box.source.put(
                    key(day.isoformat(), dataset), csv_gz("ticker,close", [f"AAPL,{day.toordinal() / 7:.2f}"] * 300)
                )
    for day in days(INDICES, date(2026, 11, 2)):
        box.source.put(key(day.isoformat(), INDICES), b"not for you")


def days(dataset: str, first: date) -> list[date]:
    """The days with a file, up to yesterday."""
    span = [first + timedelta(days=number) for number in range((TODAY - first).days)]
    return [day for day in span if closed(dataset, day) is None]


def add_large_files(box: Sandbox) -> None:
    for number, day in enumerate(days(TRADES, date(2026, 10, 26))):
        etag = f"{hashlib.md5(str(day).encode()).hexdigest()}-14"
        box.source.put(key(day.isoformat(), TRADES), GeneratedGzip(LARGE_BYTES - number * 5 * MIB), opaque_etag=etag)


@asynccontextmanager
async def mirror_at_work(folder: Path) -> AsyncIterator[tuple[str, Mirror, Sandbox]]:
    """The page's address, the mirror and its sandbox, after some history and while large files are on their way."""
    async with Sandbox(hashes_only=True) as box:
        fill(box)
        given: dict[str, Any] = {name.lower(): value for name, value in box.environment().items()} | {
            "database_url": f"sqlite:///{folder / 'ledger.db'}",
            "worker_id": "mirror-1",
            "polyb2_datasets": [STOCKS, OPTIONS, MINUTES, TRADES, INDICES],
            "polyb2_concurrency": 12,
            "polyb2_part_size": 8 * MIB,
            "polyb2_retry_base": 1.0,
            "polyb2_http_addr": "",
        }
        settings = Settings(**given)
        everything = Selection(Mode.HISTORICAL, (STOCKS, OPTIONS, MINUTES, INDICES), (DateRange(FIRST, TODAY),))
        box.source.inject(
            Fault("get", Answer(500, "InternalError"), key=key(BROKEN[1].isoformat(), BROKEN[0]), times=0)
        )
        await run(Settings(**given, polyb2_part_tries=2), _options(everything))
        box.source.put(key(REPLACED[1].isoformat(), REPLACED[0]), b"corrected figures")
        add_large_files(box)
        async with open_mirror(settings) as mirror:
            since = Selection(Mode.HISTORICAL, (STOCKS, TRADES), (DateRange(date(2026, 10, 1), TODAY),))
            await discover(Discovery(mirror, since), Consent(10**15, given=True))
        address = f"127.0.0.1:{free_port()}"
        working = Settings(**given | {"polyb2_http_addr": address, "polyb2_max_bandwidth": Schedule(9_000_000)})
        async with running(lambda start: run(working, _options(None, watch=True, on_start=start))) as mirror:
            yield f"http://{address}", mirror, box


@asynccontextmanager
async def running(
    begin: Callable[[Callable[[Mirror, CircuitBreaker], None]], Coroutine[None, None, RunResult]],
) -> AsyncIterator[Mirror]:
    """A run, with its mirror as soon as it has one; it is ended with the block."""
    started: asyncio.Future[Mirror] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(begin(lambda mirror, _outage: started.set_result(mirror)))
        yield await started
        task.cancel()


def _options(
    selection: Selection | None,
    *,
    watch: bool = False,
    on_start: Callable[[Mirror, CircuitBreaker], None] = lambda _mirror, _outage: None,
) -> RunOptions:
    return RunOptions(selection, watch=watch, limit=None, consent=Consent(10**15, given=True), on_start=on_start)
