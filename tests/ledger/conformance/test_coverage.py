"""The calendar from the ledger: rows of files, what listings showed, and a ledger from before either was asked."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest

from polyb2.core.coverage import DayState
from polyb2.core.errors import Kind
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.rows import Binding, ListedDays
from polyb2.ledger.verbs.days import WHOLE
from tests.conftest import DAY_AGGS, key
from tests.ledger.conftest import SENT, SIZE, Books, listed

LONG_AFTER = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = "us_stocks_sip/trades_v1"


def days(*names: str) -> frozenset[date]:
    return frozenset(date.fromisoformat(name) for name in names)


async def state(ledger: Ledger, day: str, dataset: str = DAY_AGGS) -> DayState:
    wanted = date.fromisoformat(day)
    found = await ledger.calendar(dataset, wanted.year)
    return next(item.state for item in found.days if item.date == wanted)


async def test_a_calendar_tells_of_rows_listings_and_neither(books: Books) -> None:
    await books.ledger.complete(await books.claimed(listed("2024-01-02")), SENT, SIZE)
    await books.fail(await books.claimed(listed("2024-01-03")), Kind.UNSUPPORTED)
    await books.discover(listed("2024-01-04"), listed("2024-01-04", dataset=OTHER))
    seen = days("2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-31")
    await books.ledger.note_listed(ListedDays(DAY_AGGS, "2024-01", seen, LONG_AFTER))
    found = {name: await state(books.ledger, f"2024-{name}") for name in
             ("01-01", "01-02", "01-03", "01-04", "01-05", "01-06", "01-08", "01-31", "02-01")}  # fmt: skip
    assert found == {
        "01-01": DayState.CLOSED, "01-02": DayState.MIRRORED, "01-03": DayState.FAILED, "01-04": DayState.QUEUED,
        "01-05": DayState.AVAILABLE, "01-06": DayState.CLOSED, "01-08": DayState.MISSING, "01-31": DayState.AVAILABLE,
        "02-01": DayState.UNKNOWN,
    }  # fmt: skip
    assert await books.ledger.years() == {DAY_AGGS: range(2024, 2025), OTHER: range(2024, 2025)}


async def test_a_day_shows_its_row(books: Books) -> None:
    await books.ledger.complete(await books.claimed(listed("2024-01-02")), SENT, SIZE)
    await books.discover(listed("2024-01-02", "b", size=7))
    found = (await books.ledger.calendar(DAY_AGGS, 2024)).days[1]
    assert (found.key, found.state, found.closed_for) == (key("2024-01-02"), DayState.REVISED, None)
    assert found.file is not None
    assert (found.file.size, found.file.revision, found.file.mirrored_revision) == (7, 2, 1)


async def test_a_later_listing_replaces_what_an_earlier_one_showed(books: Books) -> None:
    note = books.ledger.note_listed
    await note(ListedDays(DAY_AGGS, "2024-01", days("2024-01-02", "2024-01-03"), LONG_AFTER))
    await note(ListedDays(DAY_AGGS, "2024-01", days("2024-01-03"), LONG_AFTER))
    assert await state(books.ledger, "2024-01-02") is DayState.MISSING
    assert await state(books.ledger, "2024-01-03") is DayState.AVAILABLE
    await note(ListedDays(DAY_AGGS, WHOLE, days("2023-12-29", "2024-02-01"), LONG_AFTER))
    assert await state(books.ledger, "2024-01-03") is DayState.MISSING
    assert await state(books.ledger, "2023-12-28") is DayState.BEFORE
    assert await state(books.ledger, "2024-05-01") is DayState.MISSING
    assert await books.ledger.years() == {DAY_AGGS: range(2023, 2025)}


async def test_what_is_known_lies_between_the_first_and_the_last_row_or_listing(books: Books) -> None:
    assert await books.ledger.years() == {}
    await books.discover(listed("2020-05-01"), listed("2022-05-02"))
    await books.ledger.note_listed(ListedDays(DAY_AGGS, "2019-12", days("2019-12-02"), LONG_AFTER))
    await books.ledger.note_listed(ListedDays(DAY_AGGS, "2025-01", days(), LONG_AFTER))
    assert await books.ledger.years() == {DAY_AGGS: range(2019, 2023)}


async def test_a_dataset_whose_name_begins_as_anothers_is_another(books: Books) -> None:
    await books.discover(listed("2024-01-02", dataset=DAY_AGGS + "x"))
    assert await state(books.ledger, "2024-01-02") is DayState.UNKNOWN
    assert Counter((await books.ledger.calendar(DAY_AGGS + "x", 2024)).counts())[DayState.QUEUED] == 1


@pytest.mark.parametrize("year", [1, 1000, 9999])
async def test_the_first_and_the_last_year_have_a_calendar(books: Books, year: int) -> None:
    last = f"{year:04}-12-31"
    await books.discover(listed(last))
    await books.ledger.note_listed(ListedDays(DAY_AGGS, last[:7], days(last), LONG_AFTER))
    assert (await books.ledger.calendar(DAY_AGGS, year)).days[-1].state is DayState.QUEUED
    assert await books.ledger.years() == {DAY_AGGS: range(year, year + 1)}


async def test_another_source_makes_listings_and_discovery_void(books: Books) -> None:
    await books.ledger.bind(Binding("a", "b", "c", "d", ""))
    await books.ledger.note_listed(ListedDays(DAY_AGGS, "2024-01", days("2024-01-02"), LONG_AFTER))
    await books.ledger.bind(Binding("a", "b", "c", "d", ""))
    assert await state(books.ledger, "2024-01-02") is DayState.AVAILABLE
    await books.ledger.bind(Binding("another", "b", "c", "d", ""))
    assert await state(books.ledger, "2024-01-02") is DayState.UNKNOWN
