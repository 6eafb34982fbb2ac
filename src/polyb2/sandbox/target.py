"""The B2-like target: always versioned, always signed, strict about parts, and with the quirks that users met.

Complete is not idempotent; checksum headers and conditional writes are refused; a key without listBuckets gets 403 for HEAD
of a missing key; part ETags may be switched to values that are not MD5s.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from polyb2.sandbox.exchange import Exchange, Reply, S3Error, xml_reply
from polyb2.sandbox.multipart import Upload, listed_parts, listed_uploads, wanted_parts
from polyb2.sandbox.server import SandboxServer, list_objects
from polyb2.sandbox.source import ranged
from polyb2.sandbox.storage import Blob, Store
from polyb2.sandbox.versions import Version, entry_xml, headers_of, metadata_of, version_xml

CAP_WORDS = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap."
CAPABILITIES = frozenset({"listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"})
_NEEDS = {
    "list": "listFiles",
    "list_parts": "writeFiles",
    "list_uploads": "listFiles",
    "list_versions": "listFiles",
    "get": "readFiles",
    "head": "readFiles",
    "head_bucket": "listBuckets",
    "lifecycle": "listBuckets",
    "lock": "listBuckets",
    "delete": "deleteFiles",
    "abort": "writeFiles",
}
_OF_THE_BUCKET = {
    "uploads": "list_uploads",
    "versions": "list_versions",
    "lifecycle": "lifecycle",
    "object-lock": "lock",
}
_WRITES = {"put", "create", "upload_part", "complete"}


class TargetServer(SandboxServer):
    """A bucket.

    Attributes:
        etags: ``md5``, or ``opaque``: ETags of parts and objects that look like MD5s and are not.
        lacks_list_buckets: HEAD of a missing key is 403 instead of 404.
        cap_exceeded: every write is refused for a spending cap.
        capabilities: what the key may do.
        assembly_s: seconds for which a completed object stays invisible.
        lifecycle: the rules of the bucket, as XML; empty where it has none.
        locked: new versions are locked by default.
        checks_content_md5: refuse a body that differs from its Content-MD5.
        drops_metadata: names that a proxy in between removes.
    """

    def __init__(self, folder: Path | None = None, *, hashes_only: bool = False) -> None:
        super().__init__("mirror", "0021a2b3c4d5e6f0000000001", "K002-target-secret-for-the-sandbox")
        self.etags: Literal["md5", "opaque"] = "md5"
        self.lacks_list_buckets = False
        self.cap_exceeded = False
        self.capabilities = set(CAPABILITIES)
        self.assembly_s = 0.0
        self.lifecycle = ""
        self.locked = False
        self.checks_content_md5 = True
        self.drops_metadata: set[str] = set()
        self._store = Store(folder, hashes_only=hashes_only)
        self._versions: dict[str, list[Version]] = {}
        self._keys: list[str] = []
        self._uploads: dict[str, Upload] = {}

    # -- what tests ask -----------------------------------------------------------------------------------------------

    def versions(self, key: str) -> list[Version]:
        """All versions of a key, oldest first."""
        return list(self._versions.get(key, ()))

    def current(self, key: str) -> Version | None:
        """The version that HEAD shows."""
        shown = [item for item in self._versions.get(key, ()) if item.created_s <= time.time()]
        return shown[-1] if shown and shown[-1].blobs is not None else None

    def keys(self) -> list[str]:
        """The keys that have a current version."""
        return [key for key in self._keys if self.current(key)]

    def open_uploads(self) -> list[Upload]:
        return list(self._uploads.values())

    def drop_upload(self, upload_id: str) -> None:
        """Abort an upload behind the client's back."""
        del self._uploads[upload_id]

    async def store(self, key: str, data: bytes, metadata: Mapping[str, str] | None = None) -> Version:
        """Store an object as another client would."""

        async def body() -> AsyncIterator[bytes]:
            yield data

        blob = await self._store.take(body())
        return self._publish(key, uuid.uuid4().hex, blob.md5, dict(metadata or {}), [blob])

    # -- routing ------------------------------------------------------------------------------------------------------

    def operation(self, method: str, key: str, query: dict[str, str]) -> str:
        if not key:
            asked = next((word for word in _OF_THE_BUCKET if word in query), "")
            name = {"HEAD": "head_bucket", "GET": _OF_THE_BUCKET.get(asked, "list")}.get(method)
        elif "uploadId" in query:
            name = {"PUT": "upload_part", "POST": "complete", "DELETE": "abort", "GET": "list_parts"}.get(method)
        elif "uploads" in query and method == "POST":
            name = "create"
        else:
            name = {"PUT": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}.get(method)
        return name or super().operation(method, key, query)

    async def _with_faults(self, exchange: Exchange) -> Reply:
        self._check_request(exchange)
        return await super()._with_faults(exchange)

    def _check_request(self, exchange: Exchange) -> None:
        headers = exchange.request.headers
        operation = exchange.operation
        for name in headers:
            if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum")):
                raise S3Error(
                    400, "InvalidArgument", f"Unsupported header '{name.lower()}' received for this API call."
                )
        if operation in _WRITES and ("If-Match" in headers or "If-None-Match" in headers):
            raise S3Error(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")
        if _NEEDS.get(operation, "writeFiles") not in self.capabilities:
            raise S3Error(403, "AccessDenied", "not entitled")
        if operation in _WRITES and self.cap_exceeded:
            raise S3Error(403, "AccessDenied", CAP_WORDS)

    # -- objects ------------------------------------------------------------------------------------------------------

    async def on_head_bucket(self, exchange: Exchange) -> Reply:
        return Reply(200)

    async def on_lifecycle(self, exchange: Exchange) -> Reply:
        if not self.lifecycle:
            raise S3Error(404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
        return xml_reply(f"<LifecycleConfiguration>{self.lifecycle}</LifecycleConfiguration>")

    async def on_lock(self, exchange: Exchange) -> Reply:
        if not self.locked:
            raise S3Error(404, "ObjectLockConfigurationNotFoundError", "Object lock is not enabled on this bucket")
        rule = "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>"
        return xml_reply(
            f"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
        )

    async def on_list(self, exchange: Exchange) -> Reply:
        return list_objects(self.keys(), exchange.query, self.bucket, lambda key: entry_xml(self.current(key)))

    async def on_list_versions(self, exchange: Exchange) -> Reply:
        """All versions in one page, as no client lists a large prefix."""
        prefix = exchange.query.get("prefix", "")
        body = "".join(
            version_xml(version, is_latest=version is self._versions[key][-1])
            for key in self._keys
            if key.startswith(prefix)
            for version in reversed(self._versions[key])
        )
        return xml_reply(f"<ListVersionsResult><IsTruncated>false</IsTruncated>{body}</ListVersionsResult>")

    async def on_put(self, exchange: Exchange) -> Reply:
        blob = await self._take(exchange)
        expected = exchange.request.headers.get("Content-MD5")
        if self.checks_content_md5 and expected is not None and base64.b64decode(expected).hex() != blob.md5:
            raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        version = self._publish(exchange.key, uuid.uuid4().hex, self._etag(blob.md5), self._metadata(exchange), [blob])
        return Reply(200, {"ETag": f'"{version.etag}"', "x-amz-version-id": version.version_id})

    async def on_head(self, exchange: Exchange) -> Reply:
        try:
            found = self._find(exchange)
        except S3Error:
            if self.lacks_list_buckets:
                raise S3Error(403, "AccessDenied", "Cannot access bucket") from None
            raise
        return Reply(200, headers_of(found), found.read, found.size)

    async def on_get(self, exchange: Exchange) -> Reply:
        found = self._find(exchange)
        return ranged(found.size, found.read, headers_of(found), exchange.request.headers.get("Range"))

    async def on_delete(self, exchange: Exchange) -> Reply:
        version_id = exchange.query.get("versionId")
        if version_id is None:
            self._publish(exchange.key, uuid.uuid4().hex, "", {}, None)
        elif exchange.key in self._versions:
            kept = [item for item in self._versions[exchange.key] if item.version_id != version_id]
            self._versions[exchange.key] = kept
        return Reply(204)

    def _find(self, exchange: Exchange) -> Version:
        version_id = exchange.query.get("versionId")
        if version_id is None:
            found = self.current(exchange.key)
        else:
            found = next((item for item in self.versions(exchange.key) if item.version_id == version_id), None)
        if found is None or found.blobs is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return found

    async def _take(self, exchange: Exchange) -> Blob:
        headers = exchange.request.headers
        if "Content-Length" not in headers:
            raise S3Error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        blob = await self._store.take(exchange.body(), flip=exchange.flip_stored)
        if blob.size != int(headers["Content-Length"]):
            raise S3Error(400, "InvalidRequest", "The request body was too small")
        return blob

    def _etag(self, md5: str) -> str:
        return md5 if self.etags == "md5" else hashlib.md5(b"opaque" + md5.encode(), usedforsecurity=False).hexdigest()

    def _metadata(self, exchange: Exchange) -> dict[str, str]:
        return {name: value for name, value in metadata_of(exchange).items() if name not in self.drops_metadata}

    def _publish(
        self, key: str, version_id: str, etag: str, metadata: dict[str, str], blobs: list[Blob] | None
    ) -> Version:
        version = Version(key, version_id, etag, metadata, blobs)
        if key not in self._versions:
            self._versions[key] = []
            bisect.insort(self._keys, key)
        self._versions[key].append(version)
        return version

    # -- multipart ----------------------------------------------------------------------------------------------------

    async def on_create(self, exchange: Exchange) -> Reply:
        upload = Upload(exchange.key, uuid.uuid4().hex, self._metadata(exchange))
        self._uploads[upload.upload_id] = upload
        return xml_reply(
            f"<InitiateMultipartUploadResult><Bucket>{self.bucket}</Bucket><Key>{escape(upload.key)}</Key>"
            f"<UploadId>{upload.upload_id}</UploadId></InitiateMultipartUploadResult>"
        )

    async def on_upload_part(self, exchange: Exchange) -> Reply:
        upload = self._upload(exchange)
        blob = await self._take(exchange)
        self._upload(exchange)
        etag = self._etag(blob.md5)
        upload.parts[exchange.part or 0] = (etag, blob)
        return Reply(200, {"ETag": f'"{etag}"'})

    async def on_list_parts(self, exchange: Exchange) -> Reply:
        return listed_parts(self._upload(exchange), exchange.query)

    async def on_list_uploads(self, exchange: Exchange) -> Reply:
        return listed_uploads(self._uploads.values(), exchange.query)

    async def on_abort(self, exchange: Exchange) -> Reply:
        del self._uploads[self._upload(exchange).upload_id]
        return Reply(204)

    async def on_complete(self, exchange: Exchange) -> Reply:
        upload = self._upload(exchange)
        parts = wanted_parts(upload, await exchange.whole_body())
        md5s = b"".join(bytes.fromhex(blob.md5) for _, blob in parts)
        composite = hashlib.md5(md5s, usedforsecurity=False).hexdigest()
        etag = f"{self._etag(composite)}-{len(parts)}"
        del self._uploads[self._upload(exchange).upload_id]
        version = self._publish(upload.key, upload.upload_id, etag, upload.metadata, [blob for _, blob in parts])
        version.created_s += self.assembly_s
        reply = xml_reply(
            f"<CompleteMultipartUploadResult><Bucket>{self.bucket}</Bucket><Key>{escape(upload.key)}</Key>"
            f"<ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
        )
        reply.headers["x-amz-version-id"] = version.version_id
        return reply

    def _upload(self, exchange: Exchange) -> Upload:
        upload = self._uploads.get(exchange.query.get("uploadId", ""))
        if upload is None or upload.key != exchange.key:
            raise S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return upload
