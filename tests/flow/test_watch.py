"""The discovery coroutine of a run that stays up: nothing but wrong words ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from polyb2.clock import Clock
from polyb2.core.errors import UsageError
from polyb2.core.selection import Mode, Selection, named_dates
from polyb2.engine import RunResult
from polyb2.flow import watch
from polyb2.sandbox import Answer, Fault
from tests.conftest import DAY_AGGS, Bench, key, until

SMALL = key("2024-01-02")
CHOSEN = named_dates(["2024-01-02"], (DAY_AGGS,))


@asynccontextmanager
async def watching(bench: Bench, selection: Selection | None = CHOSEN) -> AsyncIterator[asyncio.Task[RunResult]]:
    running = asyncio.create_task(
        bench.run(selection, watch=True, polyb2_part_tries=1, polyb2_datasets=[DAY_AGGS], polyb2_poll_interval=1.0)
    )
    yield running
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await running).signal == signal.SIGTERM


async def test_a_first_discovery_that_fails_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AGAIN_S", 0.05)
    bench.box.source.put(SMALL, b"x")
    failing = bench.box.source.inject(Fault("list", Answer(500, "InternalError"), times=3))
    async with watching(bench):
        await until(lambda: bench.box.target.current(SMALL) is not None)
    assert failing.hits == 3


async def test_a_first_discovery_that_names_nothing_is_wrong_usage(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    with pytest.raises(UsageError, match="lists no"):
        await bench.run(named_dates(["2024-01-02"], ("us_stocks_sip/nothing",)), watch=True)


async def test_wrong_usage_later_on_is_a_problem_and_no_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AGAIN_S", 0.05)
    bench.box.source.put(key("2024-01-02", "global_crypto/day_aggs_v1"), b"the chosen dataset is listed later")
    async with watching(bench, None):
        await until(lambda: bench.box.source.count("list") > 4)
        bench.box.source.put(key("2024-01-02"), b"x")


async def test_datasets_named_on_the_command_line_replace_the_setting_later_on_as_well(bench: Bench) -> None:
    today = Clock().today().isoformat()
    named, set_ = key(today, "us_stocks_sip/trades_v1"), key(today)
    bench.box.source.put(named, b"x")
    bench.box.source.put(set_, b"of a dataset that the setting names")
    async with watching(bench, Selection(Mode.EVERYTHING, ("us_stocks_sip/trades_v1",))):
        await until(lambda: bench.box.target.current(named) is not None)
        bench.box.source.put(named, b"replaced")
        await until(lambda: len(bench.box.target.versions(named)) == 2)
    assert set(await bench.rows()) == {named}
