"""``/metrics`` of a run that transferred, failed and waits, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from polyb2 import __version__
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Load
from polyb2.sandbox import Answer, Call, Fault, GeneratedGzip
from polyb2.web.metrics import OF_THE_LEDGER, OF_THIS_PROCESS
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, Gate, key, url_of
from tests.web.conftest import Serving, Showing, Site

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)
SERIES = "polyb2_queue_files"


async def series(site: Site) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """All samples, by name and labels."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families((await site.get("/metrics")).text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


async def value(site: Site, name: str, **labels: str) -> float:
    return (await series(site))[name][frozenset(labels.items())]


async def becomes(site: Site, wanted: float, name: str, **labels: str) -> None:
    while await value(site, name, **labels) != wanted:
        await asyncio.sleep(0.1)


async def test_a_transfer_is_told_by_dataset_and_side(bench: Bench, serving: Serving) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    size = len(bench.original(LARGE))
    bench.box.source.inject(Fault("get", Answer(503, "SlowDown"), times=2))
    await bench.discover()
    async with serving() as site:
        await becomes(site, 1, "polyb2_queue_files", dataset=QUOTES, status="completed")
        await becomes(site, 1, "polyb2_queue_files", dataset=DAY_AGGS, status="completed")
        found = await series(site)

        def metric(name: str, **labels: str) -> float:
            return found[name][frozenset(labels.items())]

        for side in ("source", "target"):
            assert metric("polyb2_transferred_bytes_total", dataset=QUOTES, side=side) >= size
        assert metric("polyb2_transferred_bytes_total", dataset=DAY_AGGS, side="target") == 1000
        assert metric("polyb2_part_duration_seconds_count", dataset=QUOTES) == 3
        assert metric("polyb2_part_duration_seconds_bucket", dataset=QUOTES, le="+Inf") == 3
        assert metric("polyb2_file_duration_seconds_count", dataset=DAY_AGGS) == 1
        assert metric("polyb2_first_byte_seconds_count", side="source", operation="get") >= 4
        assert metric("polyb2_request_errors_total", side="source", kind="throttled") == 2
        assert metric("polyb2_request_retries_total", side="source") == 2
        assert metric("polyb2_attempts_total", dataset=QUOTES, outcome="complete") == 1
        assert metric("polyb2_queue_bytes", dataset=QUOTES, status="completed") == size
        assert metric("polyb2_queue_oldest_age_seconds", dataset=QUOTES) == 0
        assert metric("polyb2_lease_losses_total") == 0
        assert (metric("polyb2_streams_in_use", side="source"), metric("polyb2_streams_allowed", side="target")) == (
            0,
            32,
        )
        assert (metric("polyb2_ready"), metric("polyb2_ledger_readable")) == (1, 1)


async def test_each_metric_says_whose_it_is_and_every_runner_is_told(bench: Bench, serving: Serving) -> None:
    ledgers = ("queue", "runner", "completeness", "discovery")
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    ledger = await open_ledger(url_of(bench.folder / "ledger.db"))
    other = await ledger.register("the-other", 60_000, "another host", "0.9")
    await ledger.renew(other, Load(3, 8))
    await ledger.close()
    async with serving(worker_id="this-one") as site:
        await becomes(site, 2, "polyb2_runners")
        await becomes(site, 1, SERIES, dataset=DAY_AGGS, status="completed")
        await becomes(site, 1, "polyb2_runner_info", worker_id="the-other", host="another host", version="0.9")
        here = socket.gethostname()
        assert await value(site, "polyb2_runner_info", worker_id="this-one", host=here, version=__version__) == 1
        assert await value(site, "polyb2_runner_streams_in_use", worker_id="the-other") == 3
        assert await value(site, "polyb2_runner_streams_allowed", worker_id="the-other") == 8
        assert await value(site, "polyb2_runner_bytes_per_second", worker_id="the-other") == 0
        while not await value(site, "polyb2_runner_bytes_per_second", worker_id="this-one"):
            await asyncio.sleep(0.1)
        assert await value(site, "polyb2_runners_bytes_per_second") > 0
        found = list(text_string_to_metric_families((await site.get("/metrics")).text))
        page = (await site.get("/")).text
    assert [text in page for text in ("another host", "the-other", "3 of 8", here)] == [True] * 4
    for family in found:
        if family.name.startswith("polyb2_"):
            is_ledgers = family.name.removeprefix("polyb2_").startswith(ledgers)
            assert family.documentation.endswith(OF_THE_LEDGER if is_ledgers else OF_THIS_PROCESS)


async def test_bytes_under_way_count_and_no_counter_goes_back(bench: Bench, serving: Serving) -> None:
    """The body of a part arrives while its PUT is not answered: its bytes are told, and once only."""
    bench.box.source.put(SMALL, GeneratedGzip(3 * MIB))
    size, gate = len(bench.original(SMALL)), Gate()
    await bench.discover()
    bench.box.target.inject(Fault("put", Call(gate.hold, when="after")))
    async with serving() as site:
        await gate.reached.wait()
        await becomes(site, size, "polyb2_transferred_bytes_total", dataset=DAY_AGGS, side="source")
        assert await value(site, "polyb2_files_in_flight") == 1
        assert await value(site, "polyb2_streams_in_use", side="target") == 1
        gate.open()
        await becomes(site, 0, "polyb2_files_in_flight")
        assert await value(site, "polyb2_transferred_bytes_total", dataset=DAY_AGGS, side="source") == size


async def test_waiting_and_parked_files_are_told_by_status_and_age(bench: Bench, serving: Serving) -> None:
    for day in ("2024-01-02", "2024-01-03", "2024-01-04"):
        bench.box.source.put(key(day), b"x")
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), key=key("2024-01-02"), times=0))
    bench.box.source.inject(Fault("get", Answer(405, "MethodNotAllowed"), key=key("2024-01-04"), times=0))
    began_s = time.time()
    await bench.discover()
    async with serving(polyb2_part_tries=1, polyb2_retry_base=600.0) as site:
        await becomes(site, 1, SERIES, dataset=DAY_AGGS, status="permanent_failure")
        await becomes(site, 1, SERIES, dataset=DAY_AGGS, status="failed_download")
        age_s = await value(site, "polyb2_queue_oldest_age_seconds", dataset=DAY_AGGS)
        assert 0 < age_s <= time.time() - began_s


async def test_limits_are_told_where_there_are_any(bench: Bench, serving: Serving) -> None:
    """By the settings, and of a side that throttles."""
    async with serving() as site:
        assert not {name for name in await series(site) if "_allowed_" in name}
    for day in ("2024-01-02", "2024-01-03", "2024-01-04"):
        bench.box.source.put(key(day), b"x")
    bench.box.target.inject(Fault("put", Answer(503, "SlowDown"), times=3))
    await bench.discover()
    async with serving(polyb2_source_rps=500.0, polyb2_max_bandwidth=5_000_000) as site:
        # Nothing before it has its lease.
        await becomes(site, 500, "polyb2_requests_allowed_per_second", side="source")
        assert await value(site, "polyb2_bandwidth_allowed_bytes_per_second") == 5_000_000
        limited = frozenset({("side", "target")})
        while limited not in (found := (await series(site))["polyb2_requests_allowed_per_second"]):
            await asyncio.sleep(0.1)
        assert 0 < found[limited] <= 100


async def test_the_last_discovery_is_dated(bench: Bench, serving: Serving) -> None:
    began_s = time.time()
    bench.box.source.put(SMALL, b"x")
    async with serving(polyb2_datasets=[DAY_AGGS]) as site:
        while not (told_s := await value(site, "polyb2_discovery_last_success_timestamp_seconds")):
            await asyncio.sleep(0.1)
        assert began_s <= told_s <= time.time()


async def test_a_side_that_is_away_is_not_ready(bench: Bench, serving: Serving) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    bench.box.source.inject(Fault("*", Answer(403, "InvalidAccessKeyId"), times=0))
    async with serving() as site:
        await becomes(site, 0, "polyb2_ready")


async def test_a_scrape_does_not_touch_the_libraries_registry(bench: Bench, serving: Serving) -> None:
    before = {family.name for family in REGISTRY.collect()}
    async with serving() as site:
        await series(site)
    assert {family.name for family in REGISTRY.collect()} == before


async def test_scrapers_choose_the_format(bench: Bench, serving: Serving) -> None:
    async with serving() as site:
        plain = await site.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=")
        new = await site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0; charset=utf-8")
        assert new.headers["Content-Type"].startswith("application/openmetrics-text")
        assert new.text.endswith("# EOF\n")


async def test_a_second_of_scrapes_is_one_text_for_each_format(showing: Showing) -> None:
    """Each text that is made has another CPU time of the process in it."""
    formats = ("text/plain", "application/openmetrics-text; version=1.0.0")
    async with showing() as site:
        answers = await asyncio.gather(*(site.get("/metrics", Accept=formats[number % 2]) for number in range(40)))
    texts = {answer.text for answer in answers}
    assert len(texts) <= 4, "a second may have ended meanwhile"
    assert all("polyb2_ledger_readable 1.0" in text for text in texts)


async def test_promtool_finds_nothing_to_say(bench: Bench, serving: Serving) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: tools/install-page-tools.sh does it")
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    await bench.discover()
    async with serving() as site:
        await becomes(site, 1, SERIES, dataset=QUOTES, status="completed")
        text = (await site.get("/metrics")).text
    process = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate(text.encode())
    assert (process.returncode, said.decode()) == (0, "")
