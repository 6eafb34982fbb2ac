"""Completeness by date, from a real discovery of a source that has gaps, weekend files and late ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta

import pytest

from polyb2.clock import FAKE_NOW, Clock
from polyb2.core.coverage import DayState, lag_s
from polyb2.core.errors import UsageError
from polyb2.core.selection import EVERYTHING, DateRange, Mode, Selection, historical, named_dates
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.inspect import completeness
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import DISCOVERED, Filter
from tests.conftest import DAY_AGGS, Bench, key, url_of

TRADES = "us_stocks_sip/trades_v1"
WEEK = DateRange(date(2024, 1, 1), date(2024, 1, 8))


@pytest.fixture(autouse=True)
def _wednesday_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noon US Eastern of 10 January 2024."""
    monkeypatch.setenv(FAKE_NOW, "2024-01-10T17:00:00Z")


@asynccontextmanager
async def ledger_of(bench: Bench) -> AsyncIterator[Ledger]:
    ledger = await open_ledger(url_of(bench.folder / "ledger.db"), Clock(), read_only=True)
    try:
        yield ledger
    finally:
        await ledger.close()


async def states(bench: Bench, span: DateRange = WEEK, dataset: str = DAY_AGGS) -> str:
    """The first letters of the days' states; available ones in capitals."""
    async with ledger_of(bench) as ledger:
        days = await completeness.days_of(ledger, dataset, span)
    return "".join(day.state[0].upper() if day.state is DayState.AVAILABLE else day.state[0] for day in days)


async def test_a_discovery_tells_chosen_days_from_listed_ones_and_from_gaps(bench: Bench) -> None:
    for day in ("2023-12-29", "2024-01-02", "2024-01-03", "2024-01-06"):
        bench.box.source.put(key(day), b"x")
    await bench.discover(named_dates(["2024-01-02,2024-01-05"], (DAY_AGGS,)))
    # The month was listed as a whole: chosen, not chosen, late twice, a file of a Saturday, a Sunday, late.
    assert await states(bench) == "cqAllAcl"
    assert await states(bench, DateRange(date(2023, 12, 28), date(2024, 1, 2))) == "uucccq"
    await bench.run()
    await bench.discover()
    assert await states(bench) == "cmqllqcl"
    assert await states(bench, DateRange(date(2023, 12, 28), date(2024, 1, 2))) == "bqcccm"
    async with ledger_of(bench) as ledger:
        assert int(await ledger.fact(DISCOVERED) or 0) > 0


async def test_a_file_that_was_taken_out_of_the_queue_is_not_missing(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    await bench.discover()
    async with bench.open() as mirror:
        await mirror.ledger.unqueue(EVERYTHING, Filter())
    assert (await states(bench))[1] == "A"


async def test_a_survey_and_a_listing_that_fails_note_nothing(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    async with bench.open() as mirror:
        await Discovery(mirror, EVERYTHING).survey()
    assert await states(bench) == "cuuuuccu"


async def test_a_whole_listing_of_known_files_shows_days_and_queues_none(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    bench.box.source.put(key("2024-01-03"), b"x")
    await bench.discover(named_dates(["2024-01-02"], (DAY_AGGS,)))
    bench.box.source.put(key("2024-01-04"), b"x")
    async with bench.open() as mirror:
        await Discovery(mirror, Selection(Mode.EVERYTHING, (DAY_AGGS,)), only_known=True).queue()
    assert await states(bench) == "bqAAlccl"


async def lag(ledger: Ledger) -> float:
    today = ledger.clock.today()
    days = await completeness.days_of(ledger, DAY_AGGS, DateRange(today - timedelta(days=30), today))
    return lag_s(days, ledger.clock.utc())


async def test_late_days_and_the_lag_go_by_the_usual_hour(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in ("2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"):
        bench.box.source.put(key(day), b"x")
    await bench.mirror_all()
    async with ledger_of(bench) as ledger:
        assert [day.date.day for day in await completeness.late(ledger, [DAY_AGGS])] == [8, 9]
        # Monday's files were due on Tuesday at eleven.
        assert await lag(ledger) == 25 * 3600
    monkeypatch.setenv(FAKE_NOW, "2024-01-09T15:59:59Z")
    await bench.discover()
    async with ledger_of(bench) as ledger:
        assert await completeness.late(ledger, [DAY_AGGS]) == []
        assert await lag(ledger) == 0


async def test_incomplete_days_are_named_by_date_then_dataset(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    bench.box.source.put(key("2024-01-02", TRADES), b"x")
    bench.box.source.put(key("2024-01-03"), b"x")
    await bench.mirror_all()
    async with ledger_of(bench) as ledger:
        selection = named_dates(["2024-01-01..2024-01-05,2024-01-02"])
        found = await completeness.lacking_of(ledger, selection, [DAY_AGGS, TRADES])
        counts = [
            len(year.days)
            for name in (DAY_AGGS, TRADES)
            async for year in completeness.by_year(ledger, selection, name)
        ]
    assert [(day.day, dataset, state) for day, dataset, state in found] == [
        (3, TRADES, DayState.LATE),
        *((day, dataset, DayState.LATE) for day in (4, 5) for dataset in (DAY_AGGS, TRADES)),
    ]
    assert (len(found), counts) == (5, [5, 5])


@pytest.mark.parametrize(
    ("selection", "first", "last"),
    [
        (EVERYTHING, "2023-01-01", "2024-01-10"),
        (historical(None, date(2023, 5, 1)), "2023-01-01", "2023-05-01"),
        (historical(date(2024, 1, 3), None), "2024-01-03", "2024-01-10"),
        (named_dates(["2024-02-01"]), "2024-02-01", "2024-02-01"),
        (historical(date(2024, 2, 1), None), None, None),
    ],
)
async def test_open_ends_reach_from_the_first_year_that_is_known_to_today(
    bench: Bench, selection: Selection, first: str | None, last: str | None
) -> None:
    bench.box.source.put(key("2023-12-29"), b"x")
    await bench.discover()
    async with ledger_of(bench) as ledger:
        days = [day async for year in completeness.by_year(ledger, selection, DAY_AGGS) for day in year.days]
    assert [day.date.isoformat() for day in (*days[:1], *days[-1:])] == [day for day in (first, last) if day]


async def test_patterns_name_what_the_ledger_knows_or_else_what_is_documented(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    bench.box.source.put(key("2024-01-02", "us_bonds/day_aggs_v1"), b"x")
    await bench.discover()
    async with ledger_of(bench) as ledger:
        known = completeness.resolve_known
        assert await known(ledger, []) == ["us_bonds/day_aggs_v1", DAY_AGGS]
        assert await known(ledger, ["us_stocks_sip/*", "*/day_aggs_v1"]) == [DAY_AGGS, "us_bonds/day_aggs_v1"]
        assert await known(ledger, ["global_crypto/trades_v1"]) == ["global_crypto/trades_v1"]
        with pytest.raises(UsageError, match="did you mean us_bonds/day_aggs_v1"):
            await known(ledger, ["us_bond/day_aggs_v1"])
        with pytest.raises(UsageError, match="neither the ledger nor the catalogue"):
            await known(ledger, ["us_bonds/t*"])
