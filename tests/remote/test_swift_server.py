"""What the Swift behind our tests does, and where it differs from AWS and B2: a change here explains one elsewhere."""

import asyncio
import base64
import hashlib
import io
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import aioboto3
import aiohttp
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError
from yarl import URL

from swift import SwiftError, SwiftServer, swift_missing

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedMultipartUploadTypeDef, CompletedPartTypeDef

MIB: Final = 1 << 20
PART_BYTES: Final = 5 * MIB
KEYS: Final = ("a/1", "a/2", "a/b/3", "b/1", "c", "pct%41", "plus+x", "sp ace", "z%2F", "~t", "é/ü")
SESSION: Final = aioboto3.Session()
CONFIG: Final = AioConfig(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"total_max_attempts": 1},
)


class Upload(TypedDict):
    Bucket: str
    Key: str
    UploadId: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    if reason := swift_missing():
        pytest.skip(reason)
    with SwiftServer(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture
async def s3(server: SwiftServer) -> AsyncIterator["S3Client"]:
    async with SESSION.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=CONFIG,
    ) as client:
        yield client


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
        yield session


@pytest.fixture
async def bucket(s3: "S3Client") -> str:
    name = f"t-{uuid.uuid4().hex[:12]}"
    await s3.create_bucket(Bucket=name)
    return name


def hex_md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def content_md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def composite(parts: list[bytes]) -> str:
    return f"{hex_md5(b''.join(hashlib.md5(part).digest() for part in parts))}-{len(parts)}"


async def presign(s3: "S3Client", operation: str, **params: object) -> URL:
    return URL(await s3.generate_presigned_url(operation, Params=params, ExpiresIn=600), encoded=True)


async def refused(call: Any) -> tuple[int, str]:
    """Status and code of a call that must fail. A HEAD has no body, so its code is the status again."""
    with pytest.raises(ClientError) as caught:
        await call
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


async def put(http: aiohttp.ClientSession, url: URL, body: bytes, md5: str) -> tuple[int, Mapping[str, str], str]:
    async with http.put(url, data=io.BytesIO(body), headers={"Content-MD5": md5}) as answer:
        return answer.status, answer.headers, await answer.text()


async def uploaded(
    s3: "S3Client", http: aiohttp.ClientSession, target: Upload, parts: list[bytes]
) -> list["CompletedPartTypeDef"]:
    async def one(number: int, body: bytes) -> "CompletedPartTypeDef":
        md5 = content_md5(body)
        url = await presign(s3, "upload_part", **target, PartNumber=number, ContentMD5=md5)
        status, headers, text = await put(http, url, body, md5)
        assert status == 200, text
        assert headers["ETag"] == f'"{hex_md5(body)}"'
        return {"PartNumber": number, "ETag": headers["ETag"]}

    return await asyncio.gather(*(one(number, body) for number, body in enumerate(parts, 1)))


async def begun(s3: "S3Client", bucket: str, key: str, **more: Any) -> Upload:
    created = await s3.create_multipart_upload(Bucket=bucket, Key=key, **more)
    return {"Bucket": bucket, "Key": key, "UploadId": created["UploadId"]}


async def test_put_get_and_metadata(s3: "S3Client", bucket: str) -> None:
    body, meta = b"hello world" * 1000, {"polyb2-token": "t0ken", "src_last_modified_millis": "1700000000123"}
    written = await s3.put_object(Bucket=bucket, Key="k", Body=body, Metadata=meta, ContentType="application/gzip")
    assert written["ETag"] == f'"{hex_md5(body)}"'
    head = await s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"], head["Metadata"]) == (written["ETag"], len(body), meta)
    assert head["ContentType"] == "application/gzip"
    assert "VersionId" not in set(head)
    (listed,) = (await s3.list_objects_v2(Bucket=bucket))["Contents"]
    assert (listed["ETag"], listed["Size"], listed["LastModified"]) == (head["ETag"], len(body), head["LastModified"])
    await s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"long": "x" * 2048})


async def test_range_and_if_match(s3: "S3Client", bucket: str) -> None:
    body = bytes(range(256))
    etag = (await s3.put_object(Bucket=bucket, Key="k", Body=body))["ETag"]
    got = await s3.get_object(Bucket=bucket, Key="k", Range="bytes=250-999", IfMatch=etag)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == "bytes 250-255/256"
    assert await got["Body"].read() == body[250:]
    stale = f'"{hex_md5(b"old")}"'
    assert await refused(s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-9", IfMatch=stale)) == (
        412,
        "PreconditionFailed",
    )
    assert await refused(s3.head_object(Bucket=bucket, Key="k", IfMatch=stale)) == (412, "412")
    assert await refused(s3.get_object(Bucket=bucket, Key="k", Range="bytes=256-")) == (416, "InvalidRange")


async def test_what_is_missing(s3: "S3Client", bucket: str) -> None:
    assert await refused(s3.head_object(Bucket=bucket, Key="no")) == (404, "404")
    assert await refused(s3.get_object(Bucket=bucket, Key="no")) == (404, "NoSuchKey")
    assert await refused(s3.put_object(Bucket=f"{bucket}-no", Key="k", Body=b"")) == (404, "NoSuchBucket")
    assert await refused(s3.create_bucket(Bucket=bucket)) == (409, "BucketAlreadyOwnedByYou")
    await s3.delete_object(Bucket=bucket, Key="no")


async def test_zero_bytes(s3: "S3Client", bucket: str) -> None:
    written = await s3.put_object(Bucket=bucket, Key="zero", Body=b"")
    assert written["ETag"] == f'"{hex_md5(b"")}"'
    assert (await s3.head_object(Bucket=bucket, Key="zero"))["ContentLength"] == 0
    assert await (await s3.get_object(Bucket=bucket, Key="zero"))["Body"].read() == b""
    assert await refused(s3.get_object(Bucket=bucket, Key="zero", Range="bytes=0-0")) == (416, "InvalidRange")


async def test_presigned_put_checks_signature_and_md5(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    body, right, wrong = b"payload", content_md5(b"payload"), content_md5(b"other")
    good = await presign(s3, "put_object", Bucket=bucket, Key="k", ContentMD5=right)
    assert (await put(http, good, body, right))[0] == 200
    status, _, text = await put(http, good, b"PAYLOAD", right)
    assert (status, "<Code>BadDigest</Code>" in text) == (400, True)
    status, _, text = await put(http, good, body, wrong)
    assert (status, "<Code>SignatureDoesNotMatch</Code>" in text) == (403, True)
    async with http.put(good, data=body) as answer:
        assert answer.status == 403
    assert await (await s3.get_object(Bucket=bucket, Key="k"))["Body"].read() == body


@pytest.mark.parametrize("key", KEYS)
async def test_keys_come_back_as_they_went(s3: "S3Client", http: aiohttp.ClientSession, bucket: str, key: str) -> None:
    url = await presign(s3, "put_object", Bucket=bucket, Key=key, ContentMD5=content_md5(key.encode()))
    assert (await put(http, url, key.encode(), content_md5(key.encode())))[0] == 200
    assert [each["Key"] for each in (await s3.list_objects_v2(Bucket=bucket, Prefix=key[:4]))["Contents"]] == [key]
    async with http.get(await presign(s3, "get_object", Bucket=bucket, Key=key)) as answer:
        assert await answer.read() == key.encode()


async def test_listing(s3: "S3Client", bucket: str) -> None:
    await asyncio.gather(*(s3.put_object(Bucket=bucket, Key=key, Body=b"x") for key in KEYS))
    assert (await s3.list_objects_v2(Bucket=bucket, Prefix="none"))["KeyCount"] == 0

    by_folder = await s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")
    assert [each["Key"] for each in by_folder["Contents"]] == ["a/1", "a/2"]
    assert [each["Prefix"] for each in by_folder["CommonPrefixes"]] == ["a/b/"]

    for marker in ("a/2", "a/20"):  # StartAfter excludes, and need not exist
        after = await s3.list_objects_v2(Bucket=bucket, StartAfter=marker)
        assert [each["Key"] for each in after["Contents"]] == [key for key in sorted(KEYS) if key > marker]

    pages = [
        page
        async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
    ]
    assert [len(page["Contents"]) for page in pages] == [3, 3, 3, 2]
    assert [each["Key"] for page in pages for each in page["Contents"]] == sorted(KEYS)


async def test_multipart(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    key, meta = "day +1%/é.csv.gz", {"polyb2-token": "t0ken", "src_last_modified_millis": "1700000000123"}
    bodies = [b"a" * PART_BYTES, b"b" * PART_BYTES, b"tail"]
    target = await begun(s3, bucket, key, Metadata=meta)
    parts = await uploaded(s3, http, target, bodies)

    first_page = await s3.list_parts(**target, MaxParts=2)
    assert (first_page["IsTruncated"], first_page["NextPartNumberMarker"]) == (True, 2)
    rest = await s3.list_parts(**target, PartNumberMarker=2)
    listed = [*first_page["Parts"], *rest["Parts"]]
    assert [(each["PartNumber"], each["ETag"], each["Size"]) for each in listed] == [
        (number, f'"{hex_md5(body)}"', len(body)) for number, body in enumerate(bodies, 1)
    ]
    assert (await s3.list_objects_v2(Bucket=bucket))["KeyCount"] == 0
    assert [each["UploadId"] for each in (await s3.list_multipart_uploads(Bucket=bucket))["Uploads"]] == [
        target["UploadId"]
    ]

    wrong: CompletedPartTypeDef = {"PartNumber": 3, "ETag": hex_md5(b"no")}
    broken = s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [*parts[:2], wrong]})
    assert await refused(broken) == (400, "InvalidPart")

    etag = f'"{composite(bodies)}"'
    done = await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    assert (done["ETag"], "VersionId" in done) == (etag, False)
    head = await s3.head_object(Bucket=bucket, Key=key)
    assert (head["ETag"], head["ContentLength"]) == (etag, sum(map(len, bodies)))
    # Unlike a PUT: a Complete turns the underscores of metadata names into hyphens.
    assert head["Metadata"] == {name.replace("_", "-"): value for name, value in meta.items()}
    seam = await s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={PART_BYTES - 1}-{PART_BYTES}", IfMatch=etag)
    assert await seam["Body"].read() == b"ab"
    assert "Uploads" not in await s3.list_multipart_uploads(Bucket=bucket)


async def test_after_complete(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    """Unlike B2: a completed upload stays usable while its object is the current one."""
    bodies = [b"a" * PART_BYTES, b"tail"]
    target = await begun(s3, bucket, "k")
    parts = await uploaded(s3, http, target, bodies)
    for _ in range(2):  # a second Complete repeats the first one's answer
        done = await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
        assert done["ETag"] == f'"{composite(bodies)}"'
    shorter = await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts[:1]})
    assert shorter["ETag"] == f'"{composite(bodies[:1])}"'
    assert len((await s3.list_parts(**target))["Parts"]) == 2
    assert await refused(s3.abort_multipart_upload(**target)) == (404, "NoSuchKey")
    assert (await s3.head_object(Bucket=bucket, Key="k"))["ContentLength"] == PART_BYTES

    await s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    late = s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    assert await refused(late) == (404, "NoSuchUpload")
    assert (await s3.head_object(Bucket=bucket, Key="k"))["ContentLength"] == 5


async def test_abort_and_small_parts(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    target = await begun(s3, bucket, "k")
    parts = await uploaded(s3, http, target, [b"small", b"last"])
    complete: CompletedMultipartUploadTypeDef = {"Parts": parts}
    assert await refused(s3.complete_multipart_upload(**target, MultipartUpload=complete)) == (400, "EntityTooSmall")
    await s3.abort_multipart_upload(**target)
    gone = (404, "NoSuchUpload")
    assert await refused(s3.abort_multipart_upload(**target)) == gone
    assert await refused(s3.list_parts(**target)) == gone
    assert await refused(s3.upload_part(**target, PartNumber=1, Body=b"x")) == gone
    assert await refused(s3.complete_multipart_upload(**target, MultipartUpload=complete)) == gone


async def test_what_swift_does_not_have(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    etag = (await s3.put_object(Bucket=bucket, Key="k", Body=b"x"))["ETag"]
    assert await refused(s3.head_object(Bucket=bucket, Key="k", PartNumber=1)) == (405, "405")
    conditional = (501, "NotImplemented")
    assert await refused(s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")) == conditional
    assert await refused(s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfMatch=etag)) == conditional
    # x-amz-checksum-*: taken, neither checked nor kept.
    false = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    await s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumSHA256=false)
    assert "ChecksumSHA256" not in await s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    # DeleteObjects: botocore sends a CRC32, Swift wants a Content-MD5.
    delete = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    assert await refused(delete) == (400, "InvalidRequest")


async def test_versions(s3: "S3Client", bucket: str) -> None:
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    versions = [(await s3.put_object(Bucket=bucket, Key="k", Body=body))["VersionId"] for body in (b"1", b"22")]
    head = await s3.head_object(Bucket=bucket, Key="k")
    assert (head["VersionId"], head["ContentLength"]) == (versions[1], 2)
    assert (await s3.head_object(Bucket=bucket, Key="k", VersionId=versions[0]))["ContentLength"] == 1
    assert (await s3.delete_object(Bucket=bucket, Key="k"))["DeleteMarker"] is True
    listed = await s3.list_object_versions(Bucket=bucket)
    assert [each["VersionId"] for each in listed["Versions"]] == versions[::-1]


async def test_many_streams(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    bodies = [bytes([number]) * 8 * MIB for number in range(32)]
    target = await begun(s3, bucket, "k")
    parts = await uploaded(s3, http, target, bodies)
    done = await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    assert done["ETag"] == f'"{composite(bodies)}"'
    url = await presign(s3, "get_object", Bucket=bucket, Key="k")

    async def same(number: int) -> bool:
        span = f"bytes={number * 8 * MIB}-{(number + 1) * 8 * MIB - 1}"
        async with http.get(url, headers={"Range": span, "If-Match": done["ETag"]}) as answer:
            return await answer.read() == bodies[number]

    assert all(await asyncio.gather(*map(same, range(len(bodies)))))


async def test_aborted_clients(s3: "S3Client", http: aiohttp.ClientSession, bucket: str) -> None:
    body = b"x" * 16 * MIB
    target = await begun(s3, bucket, "k")
    (part,) = await uploaded(s3, http, target, [body])
    await s3.put_object(Bucket=bucket, Key="whole", Body=body)
    into, outof = (
        await presign(s3, "upload_part", **target, PartNumber=2),
        await presign(s3, "get_object", Bucket=bucket, Key="whole"),
    )

    async def abandon(method: str, url: URL, sent: bytes) -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        length = f"Content-Length: {len(body)}\r\n" if method == "PUT" else ""
        writer.write(
            f"{method} {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n{length}\r\n".encode() + sent
        )
        await writer.drain()
        if method == "GET":
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()

    await asyncio.gather(
        *(abandon("PUT", into, b"y" * MIB) for _ in range(16)), *(abandon("GET", outof, b"") for _ in range(16))
    )
    assert [each["PartNumber"] for each in (await s3.list_parts(**target))["Parts"]] == [1]
    await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [part]})
    assert await (await s3.get_object(Bucket=bucket, Key="k"))["Body"].read() == body


def test_stop_leaves_nothing(tmp_path: Path, server: SwiftServer) -> None:
    second = SwiftServer(tmp_path)
    with second:
        assert second.endpoint_url != server.endpoint_url
    second.stop()
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_failed_start_says_why_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := swift_missing():
        pytest.skip(reason)
    monkeypatch.setattr("swift._SWIFT_CONF", "[swift-hash]\n")
    with pytest.raises(SwiftError, match=r"ended(?s:.)*swift_hash_path"):
        SwiftServer(tmp_path).start()
    assert list(tmp_path.iterdir()) == []
