"""The discovery coroutine of a run that stays up: only wrong arguments end it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import pytest

from polyb2.clock import FAKE_NOW, Clock
from polyb2.core.coverage import Day, DayState
from polyb2.core.errors import UsageError
from polyb2.core.retry import TIMING
from polyb2.core.selection import DateRange, Mode, Selection, daily, named_dates
from polyb2.engine import RunResult
from polyb2.flow.discover import watch
from polyb2.flow.discover.consent import Consent, discover
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.inspect.completeness import days_of
from polyb2.flow.mirror import Mirror
from polyb2.flow.rounds import Rounds, round_name
from polyb2.flow.run.lease import Lease
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import DISCOVERED, Worker
from polyb2.sandbox import Answer, Fault
from tests.conftest import DAY_AGGS, Bench, key, until, url_of

SMALL = key("2024-01-02")
CHOSEN = named_dates(["2024-01-02"], (DAY_AGGS,))


@asynccontextmanager
async def watching(
    bench: Bench, selection: Selection | None = CHOSEN, datasets: tuple[str, ...] = (DAY_AGGS,)
) -> AsyncIterator[asyncio.Task[RunResult]]:
    running = asyncio.create_task(
        bench.run(selection, watch=True, polyb2_part_tries=1, polyb2_datasets=[*datasets], polyb2_poll_interval=1.0)
    )
    try:
        yield running
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        result = await running
    assert result.signal == signal.SIGTERM


async def test_a_first_discovery_that_fails_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.hurry(discover_again_s=0.05)
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
    bench.hurry(discover_again_s=0.05)
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


async def test_a_watch_that_began_with_more_days_goes_on_looking_back_as_many(bench: Bench) -> None:
    today = Clock().today()
    first, older = key(today.isoformat()), key((today - timedelta(days=20)).isoformat())
    bench.box.source.put(first, b"x")
    async with watching(bench, daily(today, 30, (DAY_AGGS,))):
        await until(lambda: bench.box.target.current(first) is not None)
        bench.box.source.put(older, b"listed late")
        await until(lambda: bench.box.target.current(older) is not None)


# -- the schedule ------------------------------------------------------------------------------------------------------

OLD, RECENT, UNCHOSEN = key("2020-01-02"), key("2024-01-09"), key("2020-01-03")
NOON = "2024-01-10T17:00:00Z"
"""A Wednesday in New York."""


async def fact(bench: Bench, name: str) -> str | None:
    ledger = await open_ledger(url_of(bench.folder / "ledger.db"), read_only=True)
    try:
        return await ledger.fact(name)
    finally:
        await ledger.close()


async def seen(bench: Bench, name: str, than: str | None = None) -> str:
    """The fact of the ledger, once it is there and another ``than`` that."""
    while (found := await fact(bench, name)) is None or found == than:
        await asyncio.sleep(0.02)
    return found


async def listed_whole(bench: Bench) -> int:
    """The time of the last full listing, once there is one."""
    while True:
        ledger = await open_ledger(url_of(bench.folder / "ledger.db"), read_only=True)
        try:
            found = await ledger.round(Worker(0, "onlooker"), round_name("full listing", DAY_AGGS), 0)
        finally:
            await ledger.close()
        if found.made_ms is not None:
            return found.made_ms
        await asyncio.sleep(0.02)


async def test_older_files_that_were_replaced_are_found_once_a_day_across_restarts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAKE_NOW, NOON)
    for name in (OLD, UNCHOSEN, RECENT):
        bench.box.source.put(name, b"x")
    await bench.discover(named_dates(["2020-01-02"], (DAY_AGGS,)))
    async with watching(bench, None):
        listed_ms = await listed_whole(bench)
        await until(lambda: bench.box.target.current(RECENT) is not None)
    bench.box.source.put(OLD, b"replaced")
    discovered_ms = await fact(bench, DISCOVERED)
    async with watching(bench, None):
        await seen(bench, DISCOVERED, discovered_ms)
    # Everything was listed by the process before, less than a day ago.
    assert await listed_whole(bench) == listed_ms
    assert (await bench.row(OLD))["revision"] == 1
    bench.hurry(full_listing_s=0.001)
    async with watching(bench, None):
        await until(lambda: len(bench.box.target.versions(OLD)) == 2)
    bench.assert_mirrored(OLD)
    assert set(await bench.rows()) == {OLD, RECENT}


async def test_an_outage_ends_no_watch_and_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(FAKE_NOW, NOON)
    bench.hurry(discover_again_s=0.05)
    bench.box.source.put(RECENT, b"x")
    async with watching(bench, None):
        await until(lambda: bench.box.target.current(RECENT) is not None)
        failing = bench.box.source.inject(Fault("list", Answer(500, "InternalError"), times=5))
        await until(lambda: failing.hits == 5)
        bench.box.source.put(RECENT, b"after the outage")
        await until(lambda: len(bench.box.target.versions(RECENT)) == 2)
    assert caplog.text.count("discovery failed") == 1


async def test_a_late_file_is_told_of_once_and_again_when_it_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv(FAKE_NOW, NOON)
    bench.hurry(pause_min_s=0.05)
    bench.hurry(late_again_s=0.05)
    for day in ("2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"):
        bench.box.source.put(key(day), b"x")
    async with watching(bench, None):
        await until(lambda: bench.box.source.count("list") > 40)
        bench.box.source.put(RECENT, b"at last")
        await until(lambda: "no longer late" in caplog.text)
    told = [record.message for record in caplog.records if record.message.startswith(("late", "no longer late"))]
    assert told == [
        f"late: {DAY_AGGS} of 2024-01-09 is not listed, and should have been by 2024-01-10T16:00:00+00:00",
        f"no longer late: {DAY_AGGS} of 2024-01-09 is listed now, or counts as missing",
    ]


async def test_what_is_too_much_is_left_and_not_listed_again_every_minute(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(FAKE_NOW, NOON)
    bench.box.source.put(OLD, b"x")
    bench.box.source.put(RECENT, b"x")
    await bench.mirror_all()
    bench.box.source.put(OLD, b"replaced by two thousand bytes" * 100)
    monkeypatch.setattr("tests.conftest.Consent", lambda _bytes: Consent(1000))
    async with watching(bench, None):
        await listed_whole(bench)
        bench.box.source.put(RECENT, b"small")
        await until(lambda: len(bench.box.target.versions(RECENT)) == 2)
    assert (await bench.row(OLD))["revision"] == 1
    assert caplog.text.count("more than POLYB2_MAX_PLAN_BYTES") == 1


# -- weeks without a watch, files that come after weeks ------------------------------------------------------------------

TRADES = "us_stocks_sip/trades_v1"
AWAY = [f"2024-11-{day:02}" for day in (5, 6, 7, 8, 11, 12, 13, 14, 15, 18, 19, 20)]


async def test_a_watch_goes_on_where_the_one_before_it_was_however_long_ago(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAKE_NOW, "2024-11-04T22:00:00Z")
    for day in ("2024-10-01", "2024-10-30", "2024-11-04"):
        bench.box.source.put(key(day), b"x")
    async with watching(bench, None):
        await listed_whole(bench)
        await until(lambda: bench.box.target.current(key("2024-11-04")) is not None)
    monkeypatch.setenv(FAKE_NOW, "2024-11-21T17:00:00Z")
    for day in AWAY:
        bench.box.source.put(key(day), b"x")
        bench.box.source.put(key(day, TRADES), b"of a dataset that is chosen only now")
    async with watching(bench, None, (DAY_AGGS, TRADES)):
        lately = [day for day in AWAY if day >= "2024-11-14"]
        wanted = {key(day) for day in ("2024-10-30", "2024-11-04", *AWAY)} | {key(day, TRADES) for day in lately}
        await until(lambda: all(bench.box.target.current(name) is not None for name in wanted))
    assert set(await bench.rows()) == wanted


async def test_a_day_that_is_published_weeks_after_it_was_due_is_fetched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAKE_NOW, NOON)
    bench.box.source.put(key("2024-01-08"), b"x")
    async with watching(bench, None):
        await listed_whole(bench)
    monkeypatch.setenv(FAKE_NOW, "2024-02-20T17:00:00Z")
    bench.box.source.put(RECENT, b"published at last")
    async with watching(bench, None):
        await until(lambda: bench.box.target.current(RECENT) is not None)


# -- more than may be queued unasked -----------------------------------------------------------------------------------

MONDAY = key("2024-01-08")
MUCH = b"many bytes" * 100


@dataclass
class Onlooker:
    """A watch whose rounds the test makes one by one."""

    mirror: Mirror
    watch: watch.Watch

    async def look(self) -> str | None:
        """Make one round; return the problem after it."""
        await self.watch._look_around(self.mirror)
        return self.watch.problem

    async def held(self) -> set[str]:
        return {name async for name in self.mirror.ledger.held_between("", "v")}

    async def state(self, day: str) -> DayState:
        span = DateRange(date.fromisoformat(day), date.fromisoformat(day))
        (found,) = await days_of(self.mirror.ledger, DAY_AGGS, span)
        return found.state

    async def agree(self, *days: str) -> None:
        await discover(Discovery(self.mirror, named_dates([*days], (DAY_AGGS,))), Consent(0, given=True))


@pytest.fixture
async def onlooker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Onlooker]:
    """Three mirrored files, an old one and two of the last days; more than 1500 bytes need confirmation."""
    monkeypatch.setenv(FAKE_NOW, NOON)
    bench.hurry(full_listing_s=0.0)
    for name in (OLD, MONDAY, RECENT):
        bench.box.source.put(name, b"x")
    await bench.mirror_all()
    async with bench.open() as mirror:
        lease = Lease(mirror.ledger, "onlooker", 60)
        await lease.take()
        rounds = Rounds(mirror.ledger, lease, 1.0)
        yield Onlooker(mirror, watch.Watch(mirror, rounds, (DAY_AGGS,), Consent(1500), 900, lambda: None))


async def test_replaced_files_that_are_too_much_are_held_and_said_until_somebody_agrees(
    bench: Bench, onlooker: Onlooker, caplog: pytest.LogCaptureFixture
) -> None:
    assert await onlooker.look() is None
    for name in (MONDAY, RECENT):
        bench.box.source.put(name, MUCH)
    command = f"polyb2 discover --dates 2024-01-08,2024-01-09 --dataset {DAY_AGGS} --yes"
    for _ in range(2):
        problem = await onlooker.look()
        assert problem is not None
        assert problem.startswith("2 files with 2.0 kB, 2 of them replaced at the source, are not queued")
        assert problem.endswith(command)
    assert caplog.text.count("are not queued") == 1
    # What the mirror has is what it had; that there is a newer revision is known.
    row = await bench.row(MONDAY)
    assert (row["status"], row["revision"], row["mirrored_revision"]) == ("completed", 1, 1)
    assert [await onlooker.state(day) for day in ("2024-01-08", "2024-01-09")] == [DayState.REVISED, DayState.REVISED]
    status = (await onlooker.mirror.ledger.status()).as_json()
    assert status["held"] == {"files": 2, "bytes": 2000, "agree_with": command}
    assert f"agree, run {command}" in (await bench.cli("status")).out.replace("\n", " ")
    await onlooker.agree("2024-01-09")
    assert (await onlooker.held(), (await bench.row(RECENT))["revision"]) == ({MONDAY}, 2)
    # What is left is little enough by itself.
    assert await onlooker.look() is None
    assert (await onlooker.held(), (await bench.row(MONDAY))["status"]) == (set(), "pending")


async def test_what_is_held_holds_up_nothing_that_comes_later(bench: Bench, onlooker: Onlooker) -> None:
    for name in (MONDAY, RECENT):
        bench.box.source.put(name, MUCH)
    await onlooker.look()
    today = key("2024-01-10")
    bench.box.source.put(today, b"a new day")
    bench.box.source.put(OLD, b"replaced by little")
    assert await onlooker.look() is not None
    assert await onlooker.held() == {MONDAY, RECENT}
    rows = await bench.rows()
    assert {name for name, row in rows.items() if row["status"] == "pending"} == {today, OLD}


@pytest.mark.parametrize("how", ["changed back", "gone"])
async def test_what_is_held_is_forgotten_once_the_source_lists_something_else(
    bench: Bench, onlooker: Onlooker, how: str
) -> None:
    for name in (MONDAY, RECENT):
        bench.box.source.put(name, MUCH)
    assert await onlooker.look() is not None
    if how == "gone":
        bench.box.source.remove(MONDAY)
    else:
        bench.box.source.put(MONDAY, b"x")
    bench.box.source.put(RECENT, MUCH + MUCH)
    assert await onlooker.look() is not None
    assert await onlooker.held() == {RECENT}
    assert (await onlooker.mirror.ledger.held()).bytes == 2000


async def test_new_files_that_are_too_much_are_held_and_nothing_of_them_is_in_the_ledger(
    bench: Bench, onlooker: Onlooker
) -> None:
    for day in ("2024-01-04", "2024-01-05"):
        bench.box.source.put(key(day), MUCH)
    problem = await onlooker.look()
    assert problem is not None
    assert problem.startswith("2 files with 2.0 kB are not queued")
    assert key("2024-01-04") not in await bench.rows()
    assert await onlooker.state("2024-01-04") is DayState.AVAILABLE
    await onlooker.agree("2024-01-04", "2024-01-05")
    assert await onlooker.look() is None


@pytest.mark.parametrize(
    ("now", "interval_s", "late", "pause_s"),
    [
        ("2024-01-10T12:00:00Z", 900, "", 900),
        ("2024-01-10T15:55:00Z", 900, "", 300),  # the usual hour comes first
        ("2024-01-10T10:00:00Z", 86_400, "", 6 * 3600),
        ("2024-01-10T16:00:00Z", 86_400, "", 86_400),
        ("2024-01-10T15:59:59.9Z", 900, "", 1),
        ("2024-01-10T15:59:59.9Z", 0.5, "", 0.5),
        ("2024-01-10T18:59:59Z", 900, "2024-01-09", TIMING.late_again_s),
        ("2024-01-10T18:59:59Z", 60, "2024-01-09", 60),
        ("2024-01-10T19:00:00Z", 900, "2024-01-09", 900),  # it may come today or never
        ("2024-01-10T16:30:00Z", 900, "2024-01-08", 900),
    ],
)
async def test_the_pause_knows_the_usual_hour(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, now: str, interval_s: float, late: str, pause_s: float
) -> None:
    monkeypatch.setenv(FAKE_NOW, now)
    async with bench.open() as mirror:
        rounds = Rounds(mirror.ledger, Lease(mirror.ledger, "w", 60), 1.0)
        watcher = watch.Watch(mirror, rounds, (DAY_AGGS,), Consent(0), interval_s, lambda: None)
        if late:
            watcher.late = [Day(DAY_AGGS, date.fromisoformat(late), DayState.LATE, None, None)]
        assert watcher._pause_s() == pytest.approx(pause_s)
