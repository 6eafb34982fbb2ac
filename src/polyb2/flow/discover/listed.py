"""One prefix of a side, listed to its end, with a bound on everything that a listing could repeat without end.

A dataset has at most one file a day, so keys that are foreign, repeated or endless are bounded by a
count. An impossible entry is left out and named; an unusable listing ends for its prefix, and is reported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self, TypeVar

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.keys import FileName, parse_key, short
from polyb2.core.parts import OBJECT_BYTES_MAX
from polyb2.core.records import ListedObject
from polyb2.core.units import format_size

PAGES_MAX = 20_000
"""More pages than any prefix has: 1,000 keys a page, a key a day."""
STUCK_MAX = 200
"""Consecutive pages without a key behind all earlier ones; a listing that is not in order has a few."""
FOREIGN_MAX = 100_000
"""Keys below a prefix that are no flat files of it."""
TWICE_MAX = 1000
"""Keys that are listed twice."""
BYTES_MAX = 2**63
"""The largest number that a ledger can store; a smaller size that exceeds the target's limit is queued and then parked."""
SORTED_MAX = 40_000
"""Objects of a prefix that are sorted in memory (some 20 MB): a file a day for a century."""
T = TypeVar("T")
Ignore = Callable[[str, str | None], None]


class ListingError(RemoteError):
    """A listing is unusable: it ends for its prefix, and the others go on."""

    def __init__(self, side: Side, prefix: str, found: str) -> None:
        super().__init__(side, Kind.MISCONFIGURED, f"the listing of {short(prefix)} {found}")


async def bounded(
    pages: AsyncIterator[list[ListedObject]], side: Side, prefix: str
) -> AsyncIterator[list[ListedObject]]:
    """The pages of a listing, up to its bounds.

    Raises:
        ListingError: it does not end.
    """
    greatest, stuck, count = "", 0, 0
    async for page in pages:
        last = max((item.key for item in page), default="")
        count, stuck = count + 1, 0 if last > greatest else stuck + 1
        greatest = max(greatest, last)
        if stuck > STUCK_MAX:
            raise ListingError(side, prefix, f"does not end: {STUCK_MAX} pages brought no further key")
        if count > PAGES_MAX:
            raise ListingError(side, prefix, f"does not end: it has more than {PAGES_MAX} pages")
        yield page


async def in_order(
    pages: Callable[[str], AsyncIterator[list[ListedObject]]],
    side: Side,
    prefix: str,
    has: Callable[[ListedObject], bool],
) -> AsyncIterator[ListedObject]:
    """Objects of a prefix in the order of their keys, each once.

    Nothing is yielded before the listing went to its end, as it may be in any order. But one that is longer than any
    of a real dataset is yielded page by page as it is listed, and has to be in order.

    Args:
        pages: lists a prefix.
        side: the side that lists.
        prefix: what is listed.
        has: tells which of its objects are wanted.

    Raises:
        ListingError: it does not end, or is long and not in order.
    """
    objects: dict[str, ListedObject] = {}
    async for page in bounded(pages(prefix), side, prefix):
        objects.update((item.key, item) for item in page if has(item))
        if len(objects) > SORTED_MAX:
            break
    else:
        for key in sorted(objects):
            yield objects.pop(key)
        return
    objects.clear()
    last = ""
    async for page in bounded(pages(prefix), side, prefix):
        for item in filter(has, page):
            if item.key <= last:
                raise ListingError(side, prefix, f"is not in the order of its keys, and has more than {SORTED_MAX}")
            last = item.key
            yield item


class Cursor:
    """A position in a listing that is in order."""

    def __init__(self, objects: AsyncIterator[ListedObject], first: ListedObject | None) -> None:
        self._objects = objects
        self._next = first

    @classmethod
    async def begin(cls, objects: AsyncIterator[ListedObject]) -> Self:
        return cls(objects, await anext(objects, None))

    async def before(self, key: str) -> AsyncIterator[ListedObject]:
        """The objects before a key, which lies behind all keys asked for so far."""
        while (item := self._next) is not None and item.key < key:
            self._next = await anext(self._objects, None)
            yield item

    async def at(self, key: str) -> ListedObject | None:
        """Go to a key; return its object if it is listed."""
        async for _ in self.before(key):
            pass
        item = self._next
        if item is None or item.key != key:
            return None
        self._next = await anext(self._objects, None)
        return item


async def batches(items: AsyncIterator[T], size: int) -> AsyncIterator[list[T]]:
    """Group the objects into batches of a size; the last of them may be smaller."""
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


async def in_turn(jobs: AsyncIterator[Coroutine[Any, Any, T]], width: int) -> AsyncGenerator[T]:
    """The results of the jobs in their order; at most this many run at once, and none outlives the generator."""
    running: deque[asyncio.Task[T]] = deque()
    try:
        async for job in jobs:
            running.append(asyncio.create_task(job))
            if len(running) >= width:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass(slots=True)
class ListingFilter:
    """Lets the files of one dataset through, each once.

    Attributes:
        dataset: the dataset.
        prefix: what is listed.
        ignore: receives each key that is left out, and the reason unless it is simply foreign.
        days: the dates of the files that were listed so far.
    """

    dataset: str
    prefix: str
    ignore: Ignore
    days: set[date] = field(default_factory=set)
    _foreign: int = 0
    _twice: int = 0

    def name_of(self, listed: ListedObject) -> FileName | None:
        """The parsed key; None for an entry that is to be left out.

        Raises:
            ListingError: more entries are left out than a listing can have.
        """
        name = parse_key(listed.key)
        if name is None or name.dataset != self.dataset or not listed.key.startswith(self.prefix):
            self._foreign += 1
            if self._foreign > FOREIGN_MAX:
                raise ListingError(
                    Side.SOURCE, self.prefix, f"has more than {FOREIGN_MAX} keys that are not its flat files"
                )
            self.ignore(listed.key, None)
            return None
        if name.date in self.days:
            self._twice += 1
            if self._twice > TWICE_MAX:
                raise ListingError(Side.SOURCE, self.prefix, f"does not end: it has shown {TWICE_MAX} keys again")
            return None
        self.days.add(name.date)
        if why := unusable(listed):
            self.ignore(listed.key, why)
            return None
        return name


def unusable(listed: ListedObject) -> str | None:
    """The reason why a listed file cannot be used; None if it can."""
    if listed.size < 0 or not listed.etag or listed.last_modified_ms < 0:
        return "its entry in the listing lacks a valid size, ETag or time"
    if listed.size >= BYTES_MAX:
        return f"listed with {listed.size} bytes, more than the target holds ({format_size(OBJECT_BYTES_MAX)})"
    return None
