"""What a watch may not queue unasked, as all see it who look, until somebody agrees: the page, its probes, the commands."""

from __future__ import annotations

import asyncio
import html

from tests.conftest import Bench, key, until
from tests.e2e.test_one_ledger import Watching, watching

DATASETS = tuple(f"us_stocks_sip/set{number:02}_v1" for number in range(13))
DAYS = tuple(f"2024-01-{day:02}" for day in range(3, 11))
NAMES = [key(day, dataset) for dataset in DATASETS for day in DAYS]
SETTINGS = {
    "POLYB2_FAKE_NOW": "2024-01-10T23:00:00Z",
    "POLYB2_DATASETS": "us_stocks_sip/*",
    # Less than one dataset's newer revisions: a round of listings that the replacement falls into holds what it sees of it.
    "POLYB2_MAX_PLAN_BYTES": "7kB",
    "POLYB2_POLL_INTERVAL": "1s",
}
WORDS = "104 files with 104.0 kB, 104 of them replaced at the source, are not queued"
COMMAND = f"polyb2 discover --dates {','.join(DAYS)} --yes"


async def test_a_hundred_files_that_are_replaced_at_once_are_said_everywhere_until_somebody_agrees(
    bench: Bench,
) -> None:
    for name in NAMES:
        bench.box.source.put(name, b"x")
    async with watching(bench, **SETTINGS) as run:
        await until(lambda: sizes(bench) == {1})
        await run.waits_for("/readyz", 200)
        for name in NAMES:
            bench.box.source.put(name, b"y" * 1000)
        while WORDS not in (reasons := await run.waits_for("/readyz", 503)):
            await asyncio.sleep(0.02)
        assert reasons.rstrip('"]}').endswith(COMMAND)
        await assert_said(bench, run)
        agreed = await bench.cli(*COMMAND.split()[1:], **SETTINGS)
        assert agreed.code == 0, agreed.err
        await run.waits_for("/readyz", 200)
        await until(lambda: sizes(bench) == {1000})
        assert (await status(bench))["held"] == {"files": 0, "bytes": 0, "agree_with": None}
    for name in NAMES:
        bench.assert_mirrored(name)


def sizes(bench: Bench) -> set[int]:
    """Of the files in the bucket; 0 stands for one that is not there."""
    return {stored.size if (stored := bench.box.target.current(name)) else 0 for name in NAMES}


async def status(bench: Bench) -> dict[str, object]:
    found: dict[str, object] = (await bench.cli("status", "--json", **SETTINGS)).json()
    return found


async def assert_said(bench: Bench, run: Watching) -> None:
    """The page, the metrics and the commands say that a newer revision waits; the old one is mirrored all the while."""
    assert WORDS in html.unescape((await run.get("/"))[1])
    assert "\npolyb2_ready 0.0\n" in (await run.get("/metrics"))[1]
    assert (await status(bench))["held"] == {"files": 104, "bytes": 104_000, "agree_with": COMMAND}
    words = " ".join((await bench.cli("status", **SETTINGS)).out.split())
    assert f"{WORDS}: they are more than POLYB2_MAX_PLAN_BYTES allows unasked; to agree, run {COMMAND}" in words
    calendar = (await bench.cli("coverage", "--dates", f"{DAYS[0]}..{DAYS[-1]}", **SETTINGS)).out
    assert calendar.count(" R R R R R R R R") == len(DATASETS)
