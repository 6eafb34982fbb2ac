"""Answers as no S3 server sends them, by raw bytes: interim answers without end, XML that grows, entries without names."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import Part
from polyb2.core.records import Revision
from polyb2.core.retry import RequestPolicy
from polyb2.remote.bucket import Bucket
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.polygon import Source
from polyb2.remote.relay import Relay
from polyb2.remote.sessions import Account, Http, open_client

ONCE = RequestPolicy(tries=1)
ETAG = "0" * 32
BODY = b"body"
FILE = f'HTTP/1.1 200 OK\r\nETag: "{ETAG}"\r\nContent-Length: {len(BODY)}\r\n\r\n'.encode() + BODY
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def listing(xml: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(xml), xml)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[Source]:
    """A source of which each request is answered with the same bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        account = Account(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "flatfiles", "us-east-1", "id", "s")
        async with open_client(account) as client, Http(account.endpoint) as http:
            yield Source(Bucket(account, client, http, Guard(Side.SOURCE, ONCE, 0.0, 30.0)))


async def get(source: Source) -> bytes:
    async with source.read("key", Revision(1, ETAG, len(BODY), 0), Part(1, 0, len(BODY))) as incoming:
        return await Relay(incoming, len(BODY), Bandwidth()).collect()


ASKS: dict[str, tuple[bytes, Callable[[Source], Awaitable[object]]]] = {
    "list": (listing(b"<ListBucketResult><Name>flatfiles</Name></ListBucketResult>"), lambda source: source.probe()),
    "get": (FILE, get),
}


@pytest.mark.parametrize("operation", ASKS)
async def test_some_interim_answers_are_passed_over(operation: str) -> None:
    answer, ask = ASKS[operation]
    async with answering(EARLY * 5 + answer) as source:
        await ask(source)


@pytest.mark.parametrize("operation", ASKS)
async def test_interim_answers_have_an_end(operation: str) -> None:
    answer, ask = ASKS[operation]
    async with answering(EARLY * 20_000 + answer) as source:
        with pytest.raises(RemoteError, match="more than 100 interim answers") as caught:
            await ask(source)
    assert (caught.value.kind, caught.value.by_intermediary) == (Kind.BAD_ANSWER, True)


async def test_an_answer_that_a_proxy_compressed_is_told_as_that() -> None:
    body = gzip.compress(b"<ListBucketResult><Name>flatfiles</Name></ListBucketResult>")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(head + body) as source:
        with pytest.raises(RemoteError, match=r"list: was answered with a body that is compressed \(gzip\)") as caught:
            await source.probe()
    assert caught.value.by_intermediary


async def test_a_body_that_breaks_off_is_told_by_its_figures() -> None:
    async with answering(FILE[:-1]) as source:
        with pytest.raises(RemoteError, match="the body ended early, after 3 of 4 bytes") as caught:
            await get(source)
    assert caught.value.kind is Kind.TRUNCATED


async def test_entities_are_not_expanded() -> None:
    entity = b"<!ENTITY a 'x'>" + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(6))
    xml = b"<!DOCTYPE l [%s]><ListBucketResult><Name>&g;</Name></ListBucketResult>" % entity
    async with answering(listing(xml)) as source:
        with pytest.raises(RemoteError, match="something that is not S3's") as caught:
            await source.probe()
    assert (caught.value.kind, caught.value.by_intermediary) == (Kind.BAD_ANSWER, True)


async def test_an_entry_without_a_name_is_left_out_of_a_listing() -> None:
    entries = b"<Contents><Size>1</Size></Contents><Contents/><Contents><Key>a%20b</Key><Size>1</Size></Contents>"
    xml = b"<ListBucketResult><EncodingType>url</EncodingType>%s</ListBucketResult>" % entries
    async with answering(listing(xml)) as source:
        assert [item.key async for page in source.pages("") for item in page] == ["a b"]


async def test_a_folder_without_a_name_is_an_answer_that_cannot_be() -> None:
    xml = b"<ListBucketResult><EncodingType>url</EncodingType><CommonPrefixes><x/></CommonPrefixes></ListBucketResult>"
    async with answering(listing(xml)) as source:
        with pytest.raises(RemoteError, match="list was answered with an entry without 'Prefix'") as caught:
            await source.folders("")
    assert caught.value.kind is Kind.BAD_ANSWER
