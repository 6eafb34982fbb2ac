"""Guards of what a listing may bring about: nothing is gone, adopted or listed for ever because a listing is odd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import pytest

from polyb2.core.errors import Side
from polyb2.core.records import ListedObject
from polyb2.core.selection import EVERYTHING
from polyb2.flow.discover import listed
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.listed import ListingError, ListingFilter, bounded
from polyb2.sandbox import Fault, Shape
from tests.conftest import DAY_AGGS, Bench, key
from tests.flow.test_verify import bent_order

DAYS = [key(f"2024-01-0{day}") for day in (2, 3, 4)]
SMALL = DAYS[0]


async def test_a_listing_that_is_not_in_order_marks_nothing_gone(bench: Bench) -> None:
    for name in DAYS:
        bench.box.source.put(name, b"x")
    await bench.discover()
    assert (await bench.discover()).gone == 0
    bench.box.source.inject(Fault("list", Shape(bent_order), times=0))
    assert (await bench.discover()).gone == 0
    assert {row["status"] for row in (await bench.rows()).values()} == {"pending"}


async def test_a_listing_that_is_not_in_order_forgets_nothing_that_is_held(bench: Bench) -> None:
    for name in DAYS:
        bench.box.source.put(name, b"x")
    async with bench.open() as mirror:
        await Discovery(mirror, EVERYTHING).queue(agreed=())
        bench.box.source.inject(Fault("list", Shape(bent_order), times=0))
        await Discovery(mirror, EVERYTHING).queue(agreed=())
        assert set(await mirror.ledger.held_of(DAYS)) == set(DAYS)


async def test_an_object_of_another_size_is_not_adopted(bench: Bench) -> None:
    """One that was cut short, with all of our marks."""
    bench.box.source.put(SMALL, b"truth", opaque_etag="token")
    await bench.box.target.store(SMALL, b"trut", {"polyb2-source-etag": "token", "polyb2-proof": "before"})
    report = await bench.discover()
    assert (report.total("adopted"), report.total("queued")) == (0, 1)


async def _endless(*, has_new_keys: bool) -> AsyncIterator[list[ListedObject]]:
    for number in count():
        assert number < 50, "there is no end to it"
        yield [ListedObject(f"k{number if has_new_keys else 0:09}", 1, "e", 0)]


@pytest.mark.parametrize("has_new_keys", [True, False], ids=["new keys", "the same key"])
async def test_a_listing_ends_whatever_it_shows(monkeypatch: pytest.MonkeyPatch, has_new_keys: bool) -> None:
    monkeypatch.setattr(listed, "PAGES_MAX", 20)
    monkeypatch.setattr(listed, "STUCK_MAX", 5)
    pages = bounded(_endless(has_new_keys=has_new_keys), Side.SOURCE, "p/")
    for _ in range(20 if has_new_keys else 6):
        await anext(pages)
    with pytest.raises(ListingError, match="does not end"):
        await anext(pages)


def test_keys_that_come_again_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "TWICE_MAX", 3)
    ignored: list[str] = []
    sieve = ListingFilter(DAY_AGGS, f"{DAY_AGGS}/", lambda name, _why: ignored.append(name))
    entry = ListedObject(SMALL, 1, "e", 0)
    assert sieve.name_of(entry) is not None
    assert [sieve.name_of(entry) for _ in range(3)] == [None] * 3
    with pytest.raises(ListingError, match="it has shown 3 keys again"):
        sieve.name_of(entry)
    assert ignored == []


def test_foreign_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "FOREIGN_MAX", 3)
    sieve = ListingFilter(DAY_AGGS, f"{DAY_AGGS}/", lambda _name, _why: None)
    foreign = [ListedObject(f"{DAY_AGGS}/{number}.csv", 1, "e", 0) for number in range(4)]
    assert [sieve.name_of(entry) for entry in foreign[:3]] == [None] * 3
    with pytest.raises(ListingError, match="more than 3 keys that are not its flat files"):
        sieve.name_of(foreign[3])
