"""A ledger belongs to one source and one target."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from polyb2.core.errors import UsageError
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import TARGET_ETAGS, Binding
from tests.ledger.conftest import Books, listed
from tests.ledger.places import SetClock

PAIR = Binding("https://source", "flatfiles", "https://target", "bucket", "prefix/")
ENDPOINTS = ("source_endpoint", "target_endpoint")
NAMES = [field.name for field in fields(Binding)]


async def bind_and_fill(books: Books) -> None:
    await books.ledger.bind(PAIR)
    await books.discover(listed("2024-01-02"))


async def test_a_ledger_keeps_its_pair(books: Books) -> None:
    await bind_and_fill(books)
    await books.ledger.bind(PAIR)
    again = await open_ledger(books.place.url, SetClock())
    await again.bind(PAIR)
    assert [await again.fact(name) for name in NAMES] == [getattr(PAIR, name) for name in NAMES]
    await again.close()


@pytest.mark.parametrize("name", NAMES)
async def test_another_pair_is_refused_in_words_that_name_both(books: Books, name: str) -> None:
    await bind_and_fill(books)
    with pytest.raises(UsageError, match="polyb2 rebind") as raised:
        await books.ledger.bind(replace(PAIR, **{name: "other"}))
    assert repr(getattr(PAIR, name)) in str(raised.value)
    assert "'other'" in str(raised.value)
    assert name.replace("_", " ") in str(raised.value)
    assert raised.value.exit_code == 2
    assert await books.ledger.fact(name) == getattr(PAIR, name)


async def test_a_ledger_without_files_may_still_be_bound_to_another_pair(books: Books) -> None:
    await books.ledger.bind(PAIR)
    other = replace(PAIR, target_bucket="other")
    await books.ledger.bind(other)
    await books.discover(listed("2024-01-02"))
    await books.ledger.bind(other)
    with pytest.raises(UsageError):
        await books.ledger.bind(PAIR)


async def test_a_ledger_that_owes_its_target_an_abort_is_not_bound_to_another(books: Books) -> None:
    await bind_and_fill(books)
    claim = await books.claim()
    await books.begin(claim)
    await books.fail(claim)
    await books.unqueue()
    with pytest.raises(UsageError):
        await books.ledger.bind(replace(PAIR, target_bucket="other"))


async def test_what_is_known_of_one_target_is_not_believed_of_another(books: Books) -> None:
    await books.ledger.bind(PAIR)
    await books.ledger.remember(TARGET_ETAGS, "opaque")
    await books.ledger.bind(replace(PAIR, target_endpoint="https://other"))
    assert await books.ledger.fact(TARGET_ETAGS) is None


@pytest.mark.parametrize("name", NAMES)
async def test_only_an_endpoint_can_be_renamed(books: Books, name: str) -> None:
    await bind_and_fill(books)
    other = replace(PAIR, **{name: "other"})
    if name in ENDPOINTS:
        await books.ledger.rebind(other)
        await books.ledger.bind(other)
        with pytest.raises(UsageError):
            await books.ledger.bind(PAIR)
    else:
        with pytest.raises(UsageError, match="only an endpoint can be renamed"):
            await books.ledger.rebind(other)
        await books.ledger.bind(PAIR)


async def test_a_fact_is_kept_replaced_and_forgotten(books: Books) -> None:
    seen = []
    for value in (None, "1", "2", None):
        await books.ledger.remember("fact", value)
        seen.append(await books.ledger.fact("fact"))
    assert seen == [None, "1", "2", None]
