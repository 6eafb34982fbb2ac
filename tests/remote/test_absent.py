"""A HEAD that shows no object: the cases in which there is none, and those in which that is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import Part
from polyb2.core.retry import RequestPolicy
from polyb2.remote.b2 import Target
from polyb2.remote.bucket import Bucket
from polyb2.remote.guard import Guard
from polyb2.remote.sessions import Account, Http, open_client
from polyb2.sandbox import Answer, Fault, Sandbox

KEY = "us_stocks_sip/day_aggs_v1/2024/01/2024-01-02.csv.gz"


@asynccontextmanager
async def target_at(endpoint: str, box: Sandbox) -> AsyncIterator[Target]:
    account = Account(endpoint, box.target.bucket, "us-west-004", box.target.access_key, box.target.secret_key)
    guard = Guard(Side.TARGET, RequestPolicy(tries=1), 0, 5.0)
    async with open_client(account) as client, Http(endpoint) as http:
        yield Target(Bucket(account, client, http, guard), "")


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_403_is_absent_only_where_the_listing_shows_nothing(box: Sandbox, is_there: bool) -> None:
    await box.target.store(f"{KEY}.longer", b"a neighbour")
    if is_there:
        await box.target.store(KEY, b"x")
    box.target.capabilities.discard("readFiles")
    async with target_at(box.target.endpoint_url, box) as target:
        if not is_there:
            assert await target.head(KEY) is None
            return
        with pytest.raises(RemoteError, match="the key lacks readFiles") as caught:
            await target.head(KEY)
    assert caught.value.kind is Kind.NOT_PERMITTED


async def test_a_404_with_a_request_id_is_believed_at_once(box: Sandbox) -> None:
    async with target_at(box.target.endpoint_url, box) as target:
        assert await target.head(KEY) is None
    assert box.target.count("list") == 0


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_a_page_is_never_absent(box: Sandbox, status: int) -> None:
    box.target.inject(Fault("head", Answer(status, html=True)))
    async with target_at(box.target.endpoint_url, box) as target:
        with pytest.raises(RemoteError, match="head was answered") as caught:
            await target.head(KEY)
    assert caught.value.by_intermediary


@pytest.mark.parametrize("is_service", [False, True])
async def test_a_404_that_anybody_may_have_written_is_believed_if_the_service_lists(
    box: Sandbox, is_service: bool
) -> None:
    """No body, no type, no request id; the listing behind it is the service's, or the same intermediary's."""
    listing = b"<ListBucketResult><Name>mirror</Name><IsTruncated>false</IsTruncated></ListBucketResult>"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if is_service and head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(listing) + listing)
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with target_at(f"http://127.0.0.1:{port}", box) as target:
            if is_service:
                assert await target.head(KEY) is None
            else:
                with pytest.raises(RemoteError, match="list was answered 404 without the XML") as caught:
                    await target.head(KEY)
                assert caught.value.by_intermediary
    finally:
        server.close()


async def test_an_error_that_comes_in_two_pieces_is_read_whole(box: Sandbox) -> None:
    """Half of it has no code, and would be taken for an intermediary's."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<Error><Code>NoSuchKey</Code></Error>"
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:12])
        await asyncio.sleep(0.05)
        writer.write(body[12:])
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        async with target_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", box) as target:
            with pytest.raises(RemoteError) as caught:
                async with target.read(KEY, None, Part(1, 0, 10)):
                    pass
        assert (caught.value.kind, caught.value.by_intermediary) == (Kind.NOT_FOUND, False)
    finally:
        server.close()
