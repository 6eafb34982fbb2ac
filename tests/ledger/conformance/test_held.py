"""Files that wait for a confirmation: kept beside the files, counted, and forgotten when they are queued."""

from __future__ import annotations

from polyb2.core.compare import Plan
from polyb2.core.keys import parse_key
from polyb2.ledger.rows import Discovered
from tests.conftest import key
from tests.ledger.conftest import Books, listed

HUGE = 2**62


def found(day: str, plan: Plan, *, size: int, etag: str = "a") -> Discovered:
    item = listed(day, etag, size=size)
    name = parse_key(item.key)
    assert name is not None
    return Discovered(name, item, plan=plan)


async def test_what_is_held_is_counted_replaced_and_forgotten(books: Books) -> None:
    days = ("2024-01-02", "2024-01-03")
    await books.ledger.hold([found(days[0], Plan.NEW, size=1), found(days[1], Plan.REVISED, size=HUGE)])
    await books.ledger.hold([found(days[0], Plan.NEW_HELD, size=HUGE, etag="b")])
    held = await books.ledger.held()
    assert (held.files, held.bytes, held.replaced) == (2, 2 * HUGE, 1)
    assert await books.ledger.held_of([key(day) for day in days]) == {
        key(days[0]): ("b", HUGE),
        key(days[1]): ("a", HUGE),
    }
    await books.ledger.release_held([key(days[0])])
    assert [name async for name in books.ledger.held_between("", "v")] == [key(days[1])]
