"""The right of the keys to read a dataset: one byte of its newest and of its oldest file.

A 403 of a GET has three meanings at the source: the dataset is not in the plan, the date lies before the plan's history,
or the file is not published. Only listed files are requested, which leaves the first two; the newest and the oldest tell
those apart. A first 403 is requested once more, as it was seen to come and go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.keys import parse_key
from polyb2.core.parts import Part
from polyb2.core.records import ListedObject, Revision
from polyb2.remote.b2 import Target
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.polygon import Source
from polyb2.remote.relay import Relay

AGAIN_S = 1.0
SAMPLE_TIMEOUT_S = 5.0
"""For a listing, or for one byte of a file: one that is not answered says nothing about the next."""
NEIGHBOURS = 2
"""Files beside one that are requested: the day before and the day after."""
CONTRADICTING = 2
"""Number of other files whose bytes contradict the listing after which the source is at fault, not the files."""
_ABOUT_ONE_FILE = {Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.CHANGED, Kind.INCONSISTENT}
"""Errors of a GET with which the service itself has answered."""
_ONE_BYTE = Part(1, 0, 1)


class Readable(StrEnum):
    """The part of a dataset that the keys may read."""

    ALL = "all"
    RECENT = "recent"
    NONE = "none"
    UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The edges of a dataset, and the readable part of it; no edges if nothing is listed."""

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


async def neighbours(source: Source, key: str) -> list[ListedObject]:
    """The other files of a key's dataset and year, the nearest by date first."""
    name = parse_key(key)
    if name is None:
        return []
    dated = [
        (abs((other.date - name.date).days), item)
        for item in await source.same_year(key)
        if item.key != key and (other := parse_key(item.key))
    ]
    return [item for _, item in sorted(dated, key=lambda pair: (pair[0], pair[1].key))]


async def reads_near(source: Source, key: str) -> bool:
    """Tell if one of the files next to a key by date can be read; a source that cannot tell now leaves it possible."""
    try:
        async with asyncio.timeout(SAMPLE_TIMEOUT_S):
            others = await neighbours(source, key)
        for item in others[:NEIGHBOURS]:
            if await _answers(source, item) is None:
                return True
    except (RemoteError, TimeoutError):
        return True
    return False


async def probe_reading(source: Source, near: str) -> bool:
    """Find out if the source answers a GET, by one byte of a file beside ``near``: the request that failed.

    Returns:
        True if the service itself answered a GET as it should; False if that cannot be told: the one file beside it
            contradicts its listing, or there is none.

    Raises:
        RemoteError: the reason why the listing or every GET fails.
    """
    others = await neighbours(source, near) if near else []
    if not others:
        await source.probe()
        return False
    # Two consecutive days may share a bad load; the farthest file is of another one.
    sample = [*others[:NEIGHBOURS], *others[NEIGHBOURS:][-1:]]
    failures: list[RemoteError] = []
    for item in sample:
        try:
            answer = await _answers(source, item)
        except RemoteError as error:
            failures.append(error)
        else:
            if answer is None or not answer.kind.contradicts:
                return True
            failures.append(answer)
    _raise_common(failures)
    return False


def _raise_common(failures: list[RemoteError]) -> None:
    """Raise the error that all GETs share; a single file that contradicts its listing is no such error."""
    for failure in failures:
        if not failure.kind.contradicts:
            raise failure
    if len(failures) >= CONTRADICTING:
        raise failures[0]


async def probe_listing(target: Target, _near: str) -> bool:
    """Find out if the target answers at all; only a file can show if it accepts bytes, so False."""
    await target.probe()
    return False


async def _answers(source: Source, item: ListedObject) -> RemoteError | None:
    """Read one byte, once; None if it came, else the service's own answer about this file.

    Raises:
        RemoteError: the service did not answer.
    """
    try:
        async with asyncio.timeout(SAMPLE_TIMEOUT_S):
            await _read_byte(source, item)
    except TimeoutError:
        raise RemoteError(Side.SOURCE, Kind.STALLED, f"no answer within {SAMPLE_TIMEOUT_S:.0f} s") from None
    except RemoteError as error:
        if error.by_intermediary or error.kind not in _ABOUT_ONE_FILE:
            raise
        return error
    return None


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


async def _read_byte(source: Source, item: ListedObject) -> None:
    revision = Revision(1, item.etag, item.size, item.last_modified_ms)
    part = _ONE_BYTE if item.size else None
    async with source.read(item.key, revision, part, fresh=True) as incoming:
        await Relay(incoming, part.length if part else 0, Bandwidth()).collect()


async def _reads_a_byte(source: Source, item: ListedObject) -> bool:
    try:
        await source.guard.tried(lambda: _read_byte(source, item))
    except RemoteError as error:
        if error.kind is Kind.FORBIDDEN:
            return False
        raise
    return True
