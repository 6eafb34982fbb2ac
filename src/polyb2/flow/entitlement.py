"""What the keys may read of a dataset: one byte of its newest and of its oldest file.

A 403 of a GET has three meanings at the source: the dataset is not in the plan, the date lies before the plan's history,
or the file is not published. Asked for are listed files only, which leaves the first two; the newest and the oldest tell
those apart. A first 403 is asked for once more, as it was seen to come and go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.keys import parse_key
from polyb2.core.parts import Part
from polyb2.core.records import ListedObject, Revision
from polyb2.remote.guards import Bandwidth
from polyb2.remote.relay import Relay
from polyb2.remote.source import Source

AGAIN_S = 1.0
_ONE_BYTE = Part(1, 0, 1)


class Readable(StrEnum):
    """How much of a dataset the keys may read."""

    ALL = "all"
    RECENT = "recent"
    NONE = "none"
    UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The edges of a dataset, and how much of it may be read; no edges where nothing is listed."""

    readable: Readable
    newest: ListedObject | None = None
    oldest: ListedObject | None = None


async def probe_dataset(source: Source, dataset: str) -> Entitlement:
    """Read a byte of the newest and of the oldest file of a dataset.

    Raises:
        RemoteError: a listing failed, or a read for another reason than a 403.
    """
    newest, oldest = await _edge(source, dataset, last=True), await _edge(source, dataset, last=False)
    if newest is None or oldest is None:
        return Entitlement(Readable.UNLISTED)
    if not await _may_read(source, newest):
        return Entitlement(Readable.NONE, newest, oldest)
    return Entitlement(Readable.ALL if await _may_read(source, oldest) else Readable.RECENT, newest, oldest)


def date_words(item: ListedObject) -> str:
    """The date in the name of a file."""
    name = parse_key(item.key)
    return name.date.isoformat() if name else item.key


async def _edge(source: Source, dataset: str, *, last: bool) -> ListedObject | None:
    """The newest or the oldest file of a dataset, by its folders, without listing it whole."""
    for year in sorted(await source.folders(f"{dataset}/"), reverse=last):
        for month in sorted(await source.folders(f"{dataset}/{year}/"), reverse=last):
            found = [
                item
                async for page in source.pages(f"{dataset}/{year}/{month}/")
                for item in page
                if parse_key(item.key)
            ]
            if found:
                return (max if last else min)(found, key=lambda item: item.key)
    return None


async def _may_read(source: Source, item: ListedObject) -> bool:
    if await _reads_a_byte(source, item):
        return True
    await asyncio.sleep(AGAIN_S)
    return await _reads_a_byte(source, item)


async def _reads_a_byte(source: Source, item: ListedObject) -> bool:
    revision = Revision(1, item.etag, item.size, item.last_modified_ms)

    async def once() -> None:
        part = _ONE_BYTE if item.size else None
        async with source.read(item.key, revision, part, fresh=True) as incoming:
            await Relay(incoming, part.length if part else 0, Bandwidth()).collect()

    try:
        await source.guard.tried(once)
    except RemoteError as error:
        if error.kind is Kind.FORBIDDEN:
            return False
        raise
    return True
