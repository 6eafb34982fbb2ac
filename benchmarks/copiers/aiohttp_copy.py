"""The floor of small files: each in one GET and one PUT through aiohttp alone; no signature, proof or record.

SOURCE_URL TARGET_URL STREAMS.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Coroutine, Iterator
from typing import Any
from xml.sax.saxutils import unescape

import aiohttp

SOURCE_URL, TARGET_URL, STREAMS = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def listed(session: aiohttp.ClientSession) -> list[str]:
    keys: list[str] = []
    token = ""
    while True:
        async with session.get(f"{SOURCE_URL}/flatfiles?list-type=2{token}") as answer:
            text = await answer.text()
        keys += [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", text)]
        more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text)
        if more is None:
            return keys
        token = f"&continuation-token={more[1]}"


async def copy(source: aiohttp.ClientSession, target: aiohttp.ClientSession, keys: Iterator[str]) -> None:
    for key in keys:
        async with source.get(f"{SOURCE_URL}/flatfiles/{key}") as incoming:
            body = await incoming.read()
        async with target.put(f"{TARGET_URL}/mirror/{key}", data=body) as answer:
            await answer.read()
            answer.raise_for_status()


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )


async def main() -> None:
    async with session() as source, session() as target:
        keys = iter(await listed(source))
        await asyncio.gather(*(copy(source, target, keys) for _ in range(STREAMS)))


def run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where it is installed, as polyb2."""
    try:
        import uvloop  # noqa: PLC0415 - it is an extra
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


run(main())
