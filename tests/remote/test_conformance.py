"""The promises of both stores to the engine, over the sandbox and over a real S3 server: the same suite for each."""

from __future__ import annotations

import hashlib
import os

import pytest

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.integrity import ProofMark, composite
from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import PartProof, Receipt, Upload, UploadState
from polyb2.core.stamp import Stamp
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.relay import Relay
from tests.remote.conftest import PREFIX, Stores

MIB = 1 << 20
KEY = "us_stocks_sip/day aggs+v1/2024/01/2024-01-02.csv.gz"
DEST = PREFIX + KEY
MARKS = Stamp("abc", 'ö "b" %20=?-1', ProofMark.BEFORE, "1", 1_700_000_000_250, 1_700_000_000_250)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


async def read(stores: Stores, key: str, part: Part | None) -> bytes:
    async with stores.source.read(key, await stores.revision(key), part) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def begin(stores: Stores, plan: PartPlan) -> Upload:
    upload_id = await stores.target.create(DEST, MARKS)
    return Upload(1, 1, DEST, upload_id, "abc", plan, PartProof.PARTS, UploadState.OPEN)


async def send(stores: Stores, upload: Upload, number: int) -> Receipt:
    part = upload.plan.part(number)
    async with stores.source.read(KEY, await stores.revision(KEY), part) as chunks:
        relay = Relay(chunks, part.length, Bandwidth()).hashing()
        etag = await stores.target.put_part(upload, part, relay, fresh=number == 1)
        return Receipt(part, etag, relay.md5)


async def test_listing_folders_pages_and_stat(stores: Stores) -> None:
    names = [f"a b/c+d/2024/01/2024-01-{day:02}.csv.gz" for day in range(1, 4)] + ["a b/größe/x", "z/y/x"]
    for name in names:
        await stores.publish(name, b"x" * 7)
    assert await stores.source.folders("") == ["a b", "z"]
    assert await stores.source.folders("a b/") == ["c+d", "größe"]
    listed = [item async for page in stores.source.pages("a b/c+d/2024/01/") for item in page]
    assert [(item.key, item.size, item.etag) for item in listed] == [(name, 7, md5(b"x" * 7)) for name in names[:3]]
    assert await stores.source.stat("a b/c+d/2024/01/2024-01-0") is None
    assert (await stores.source.stat(names[0])) == listed[0]


async def test_whole_reads_ranges_and_if_match(stores: Stores) -> None:
    data = os.urandom(2 * MIB)
    await stores.publish(KEY, data)
    assert await read(stores, KEY, None) == data
    assert await read(stores, KEY, Part(1, 1000, 5000)) == data[1000:6000]
    revision = await stores.revision(KEY)
    await stores.publish(KEY, b"replaced")
    with pytest.raises(RemoteError) as caught:
        async with stores.source.read(KEY, revision, Part(1, 0, 10)):
            pass
    assert caught.value.kind is Kind.CHANGED


async def test_an_empty_object(stores: Stores) -> None:
    await stores.publish(KEY, b"")
    assert await read(stores, KEY, None) == b""
    stored = await stores.target.put(DEST, b"", 0, md5(b""), MARKS, fresh=False)
    assert stored.etag == md5(b"")


async def test_put_checks_the_md5_and_head_shows_what_was_put(stores: Stores) -> None:
    assert await stores.target.head(DEST) is None
    with pytest.raises(RemoteError) as caught:
        await stores.target.put(DEST, b"hello", 5, md5(b"other"), MARKS, fresh=False)
    assert caught.value.kind is Kind.BAD_DIGEST
    assert await stores.target.head(DEST) is None
    stored = await stores.target.put(DEST, b"hello", 5, md5(b"hello"), MARKS, fresh=True)
    seen = await stores.target.head(DEST)
    assert seen is not None
    assert (seen.size, seen.etag, seen.version_id) == (5, md5(b"hello"), stored.version_id)
    assert seen.stamp == MARKS
    listed = [item async for page in stores.target.pages("us_stocks_sip/") for item in page]
    assert [(item.key, item.size, item.etag) for item in listed] == [(KEY, 5, md5(b"hello"))]


async def test_a_version_is_deleted_by_its_id_alone(stores: Stores) -> None:
    first = await stores.target.put(DEST, b"first", 5, md5(b"first"), MARKS, fresh=False)
    second = await stores.target.put(DEST, b"second", 6, md5(b"second"), MARKS, fresh=False)
    assert first.version_id
    assert second.version_id
    await stores.target.delete_version(DEST, second.version_id)
    seen = await stores.target.head(DEST)
    assert seen is not None
    assert seen.etag == md5(b"first")


async def test_a_multipart_upload_from_create_to_proof(stores: Stores) -> None:
    data = os.urandom(11 * MIB)
    await stores.publish(KEY, data)
    upload = await begin(stores, PartPlan(len(data), 5 * MIB))
    assert [item.upload_id async for item in stores.target.open_uploads(DEST)] == [upload.upload_id]
    receipts = [await send(stores, upload, number) for number in (3, 1, 2)]
    assert all(receipt.etag == receipt.md5 for receipt in receipts)
    listed = await stores.target.list_parts(upload)
    assert listed is not None
    assert [(part.number, part.size) for part in listed] == [(1, 5 * MIB), (2, 5 * MIB), (3, MIB)]
    receipts.sort(key=lambda receipt: receipt.part.number)
    await stores.target.complete(upload, receipts)
    seen = await stores.target.head(DEST)
    assert seen is not None
    assert (seen.size, seen.etag) == (len(data), composite([receipt.etag for receipt in receipts]))
    assert seen.stamp == MARKS
    async with stores.target.read(DEST, seen.version_id, Part(1, MIB, 8 * MIB)) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == data[MIB : 9 * MIB]
    assert [item async for item in stores.target.open_uploads(DEST)] == []


async def test_an_aborted_upload_is_gone_and_may_be_aborted_again(stores: Stores) -> None:
    await stores.publish(KEY, os.urandom(6 * MIB))
    upload = await begin(stores, PartPlan(6 * MIB, 5 * MIB))
    await send(stores, upload, 1)
    await stores.target.abort(DEST, upload.upload_id)
    await stores.target.abort(DEST, upload.upload_id)
    assert await stores.target.list_parts(upload) is None
    with pytest.raises(RemoteError) as caught:
        await send(stores, upload, 2)
    assert caught.value.kind in {Kind.NO_SUCH_UPLOAD, Kind.CONNECTION_LOST}


async def test_a_missing_key_at_the_source_is_told_by_the_listing(stores: Stores) -> None:
    await stores.publish(KEY, b"x")
    revision = await stores.revision(KEY)
    with pytest.raises(RemoteError) as caught:
        async with stores.source.read("nobody/nothing/2024/01/2024-01-02.csv.gz", revision, None):
            pass
    assert caught.value.kind in {Kind.FORBIDDEN, Kind.NOT_FOUND}
    assert await stores.source.stat("nobody/nothing/2024/01/2024-01-02.csv.gz") is None
