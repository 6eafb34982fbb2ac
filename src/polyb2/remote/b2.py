"""The target: a B2 bucket through its S3-compatible API, as far as a mirror needs it.

Facts that shape it (Backblaze's documentation and users' reports, 2026-11): Complete is not idempotent; HEAD of a missing key
is 403 for keys without listBuckets; buckets are versioned, so nothing finished is sent again; no conditional writes.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp

from polyb2.core.errors import Kind, Origin, RemoteError, Side
from polyb2.core.integrity import clean_etag
from polyb2.core.parts import Part
from polyb2.core.records import ListedObject, OpenUpload, Receipt, StoredObject, StoredPart, Upload
from polyb2.core.stamp import Stamp
from polyb2.remote.bucket import Bucket
from polyb2.remote.classify import error_body, from_body, from_response, is_error, is_page, text_of
from polyb2.remote.guard import Fence
from polyb2.remote.pump import Incoming
from polyb2.remote.relay import Relay

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

CONTENT_TYPE = "application/gzip"
_OK = 200
_PARTIAL = 206
_ERROR_IN_A_200 = 500


class Target:
    """One bucket; every source key is stored under ``prefix``."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self.bucket = bucket
        self.guard = bucket.guard
        self.prefix = prefix

    def fenced(self, fence: Fence) -> Target:
        """The same target for requests that may start only while ``fence`` permits."""
        return Target(self.bucket.fenced(fence), self.prefix)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def head(self, dest_key: str, version_id: str | None = None) -> StoredObject | None:
        """The current or the named version of a key; None if there is none (as far as these keys may tell)."""
        named: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        try:
            answer = await self.bucket.call("head", Key=dest_key, **named)
        except RemoteError as error:
            if await self._means_absent(error, dest_key):
                return None
            raise
        return StoredObject(
            size=int(answer["ContentLength"]),
            etag=clean_etag(answer.get("ETag", "")),
            version_id=answer.get("VersionId"),
            stamp=Stamp.from_headers(answer.get("Metadata", {})),
        )

    async def _means_absent(self, error: RemoteError, dest_key: str) -> bool:
        """Tell if this answer to a HEAD says that there is no such object; the listing decides where the answer may not.

        Raises:
            RemoteError: the object is there, and the key may not read it.
        """
        if error.kind is Kind.NOT_FOUND:
            if error.origin is Origin.UNMARKED:
                # No body and no request id: any server could have sent that. The listing shows whether the service answers.
                await self.bucket.listed(dest_key)
            return True
        if error.kind is not Kind.FORBIDDEN:
            return False
        # A key without listBuckets gets 403 for HEAD of a missing object.
        if await self.bucket.listed(dest_key) is not None:
            words = "head of an object that the listing shows was answered 403: the key lacks readFiles"
            raise RemoteError(Side.TARGET, Kind.NOT_PERMITTED, words, code=error.code)
        return True

    async def folders(self, prefix: str) -> list[str]:
        """The next path segments below a prefix of *source* keys that ends in ``/`` (or is empty), without slashes."""
        return await self.bucket.folders(self.prefix + prefix)

    async def pages(self, prefix: str) -> AsyncIterator[list[ListedObject]]:
        """The current objects below a prefix of *source* keys, page by page in key order, keys without our prefix."""
        cut = len(self.prefix)
        async for page in self.bucket.pages(self.prefix + prefix):
            yield [replace(item, key=item.key[cut:]) for item in page]

    async def probe(self) -> None:
        """Make the cheapest request there is; raise the obstacle, if any."""
        await self.bucket.once("list", Prefix=self.prefix, MaxKeys=1)

    async def head_bucket(self) -> None:
        """Send HEAD for the bucket itself, which takes the capability listBuckets."""
        await self.bucket.call("head_bucket")

    async def lifecycle_rules(self) -> list[Mapping[str, Any]]:
        """The bucket's lifecycle rules, as S3 words them; empty where it has none."""
        try:
            answer = await self.bucket.call("lifecycle")
        except RemoteError as error:
            if error.code == "NoSuchLifecycleConfiguration":
                return []
            raise
        return list(answer.get("Rules", []))

    async def has_object_lock(self) -> bool:
        """Tell if new versions are locked by default, so that nothing can delete them for a while."""
        try:
            answer = await self.bucket.call("lock")
        except RemoteError as error:
            if error.code == "ObjectLockConfigurationNotFoundError":
                return False
            raise
        return "Rule" in answer.get("ObjectLockConfiguration", {})

    def read(
        self, dest_key: str, version_id: str | None, part: Part, *, fresh: bool = False
    ) -> AbstractAsyncContextManager[Incoming]:
        """The bytes of a range of a stored version, as they come."""
        query = {"versionId": version_id} if version_id else {}
        headers = {"Range": f"bytes={part.offset}-{part.offset + part.length - 1}"} if part.length else {}

        async def check(response: aiohttp.ClientResponse) -> None:
            await _check_read(response, part)

        return self.bucket.get(dest_key, headers, check, query=query, fresh=fresh)

    # -- one PUT ------------------------------------------------------------------------------------------------------

    async def put(
        self, dest_key: str, body: Relay | bytes, length: int, md5: str, stamp: Stamp, *, fresh: bool
    ) -> StoredObject:
        """Store an object in one request; a body whose MD5 is not ``md5`` (hex) is refused with ``bad_digest``."""
        headers = {
            "Content-MD5": base64.b64encode(bytes.fromhex(md5)).decode(),
            "Content-Type": CONTENT_TYPE,
            **{f"x-amz-meta-{name}": value for name, value in stamp.to_headers().items()},
        }
        answer = await self._send("put", dest_key, {}, headers, body, length, fresh=fresh)
        return StoredObject(length, clean_etag(answer["ETag"]), answer.get("x-amz-version-id"), stamp)

    # -- multipart ----------------------------------------------------------------------------------------------------

    async def create(self, dest_key: str, stamp: Stamp) -> str:
        """Begin an upload and return its id."""
        answer = await self.bucket.call("create", Key=dest_key, ContentType=CONTENT_TYPE, Metadata=stamp.to_headers())
        return str(answer["UploadId"])

    async def put_part(self, upload: Upload, part: Part, body: Relay, *, fresh: bool) -> str:
        """Send a part and return the ETag that the target gave it."""
        query = {"partNumber": str(part.number), "uploadId": upload.upload_id}
        answer = await self._send("upload_part", upload.dest_key, query, {}, body, part.length, fresh=fresh)
        return clean_etag(answer["ETag"])

    async def complete(self, upload: Upload, receipts: Sequence[Receipt]) -> None:
        """Publish an upload. Sent once: a lost answer is settled by looking, not by sending it again."""
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": receipt.part.number, "ETag": f'"{receipt.etag}"'} for receipt in receipts
        ]
        named = {"Key": upload.dest_key, "UploadId": upload.upload_id}
        await self.bucket.once("complete", **named, MultipartUpload={"Parts": parts})

    async def list_parts(self, upload: Upload) -> tuple[StoredPart, ...] | None:
        """The parts of an upload; None if the target does not know the upload."""
        answers = self.bucket.answers("list_parts", Key=upload.dest_key, UploadId=upload.upload_id)
        try:
            return tuple(
                [
                    StoredPart(item["PartNumber"], int(item["Size"]), clean_etag(item["ETag"]))
                    async for answer in answers
                    for item in answer.get("Parts", [])
                ]
            )
        except RemoteError as error:
            if error.kind in {Kind.NO_SUCH_UPLOAD, Kind.NOT_FOUND}:
                return None
            raise

    async def abort(self, dest_key: str, upload_id: str) -> None:
        """Abort an unfinished upload; one that no longer exists counts as aborted."""
        try:
            await self.bucket.call("abort", Key=dest_key, UploadId=upload_id)
        except RemoteError as error:
            if error.kind not in {Kind.NO_SUCH_UPLOAD, Kind.NOT_FOUND}:
                raise

    async def open_uploads(self, dest_prefix: str) -> AsyncIterator[OpenUpload]:
        """The unfinished uploads whose keys in the bucket start with ``dest_prefix``."""
        try:
            async for answer in self.bucket.answers("list_uploads", Prefix=dest_prefix):
                for item in answer.get("Uploads", []):
                    yield OpenUpload(item["Key"], item["UploadId"], int(item["Initiated"].timestamp() * 1000))
        except RemoteError as error:
            # Some servers have no such page where there is no upload.
            if error.kind is not Kind.NO_SUCH_UPLOAD:
                raise

    async def versions(self, dest_prefix: str) -> AsyncIterator[tuple[str, str]]:
        """Key and id of every version below a prefix of keys in the bucket, hide markers among them."""
        async for answer in self.bucket.answers("list_versions", Prefix=dest_prefix):
            for item in (*answer.get("Versions", []), *answer.get("DeleteMarkers", [])):
                yield item["Key"], item["VersionId"]

    async def delete_version(self, dest_key: str, version_id: str) -> None:
        """Remove one version that this attempt wrote; never called with a name alone."""
        await self.bucket.call("delete", Key=dest_key, VersionId=version_id)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _send(
        self,
        operation: str,
        dest_key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Relay | bytes,
        length: int,
        *,
        fresh: bool,
    ) -> Mapping[str, str]:
        async def check(response: aiohttp.ClientResponse) -> None:
            await _check_stored(response, operation)

        return await self.bucket.put(
            operation, dest_key, body, length, check, query=query, headers=headers, fresh=fresh
        )


async def _check_read(response: aiohttp.ClientResponse, part: Part) -> None:
    """Raise the error of an answer to a GET, unless it is the service's own and as long as requested."""
    is_foreign = not response.headers.get("ETag") or is_page("", response.headers)
    if response.status not in {_OK, _PARTIAL} or is_foreign:
        raise await from_response(Side.TARGET, "get", response)
    if response.content_length is not None and response.content_length != part.length:
        words = f"get of {part.length} bytes was answered with {response.content_length}"
        raise RemoteError(Side.TARGET, Kind.INCONSISTENT, words)


async def _check_stored(response: aiohttp.ClientResponse, operation: str) -> None:
    """Raise the error of an answer to a PUT, unless it is the service's own confirmation."""
    body = await error_body(response)
    text = text_of(body)
    status = _ERROR_IN_A_200 if response.status == _OK and is_error(text) else response.status
    if status != _OK or is_page(text, response.headers):
        raise from_body(Side.TARGET, operation, status, response.headers, body)
    if not clean_etag(response.headers.get("ETag", "")):
        words = f"{operation} was answered 200 without an ETag, as from a proxy that changes answers"
        raise RemoteError(Side.TARGET, Kind.BAD_ANSWER, words)
