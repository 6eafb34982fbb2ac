"""The S3 operations that the mirror and its peers use, on a bucket of the benchmark."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from email.utils import formatdate
from xml.sax.saxutils import escape

from benchmarks.server.bucket import Bucket, Stored
from benchmarks.server.wire import Answer, Request
from polyb2.sandbox.exchange import Reply, S3Error, error_reply
from polyb2.sandbox.multipart import Upload, listed_parts, listed_uploads, wanted_parts
from polyb2.sandbox.server import list_objects

_META = "x-amz-meta-"


def operation(request: Request, key: str) -> str:
    """What a request asks for, in S3's words."""
    method, query = request.method, request.query
    if not key:
        name = "list_uploads" if "uploads" in query else {"GET": "list", "HEAD": "look", "PUT": "look"}.get(method)
    elif "uploadId" in query:
        name = {"PUT": "upload_part", "POST": "complete", "DELETE": "abort", "GET": "list_parts"}.get(method)
    elif "uploads" in query:
        name = "create"
    else:
        name = {"PUT": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}.get(method)
    return name or f"unknown {method}"


class Service:
    """Answers requests.

    Args:
        bucket: its only bucket, whatever the path calls it.
        tells_parts: answer ``?partNumber=N`` with that part alone; where not, no client learns the part size.
    """

    def __init__(self, bucket: Bucket, *, tells_parts: bool) -> None:
        self._bucket = bucket
        self._tells_parts = tells_parts

    def answer(self, request: Request, name: str, key: str, body: Iterator[memoryview]) -> Answer:
        """The answer to a request; the body is read as far as the operation needs."""
        handler: Callable[[Request, str, Iterator[memoryview]], Answer] = getattr(self, f"_{name}", self._unknown)
        try:
            answer = handler(request, key, body)
        except S3Error as error:
            answer = _xml(error_reply(error))
        answer.headers.setdefault("Date", formatdate(usegmt=True))
        return answer

    def _unknown(self, request: Request, key: str, _body: Iterator[memoryview]) -> Answer:
        raise S3Error(501, "NotImplemented", f"{request.method} {key} {sorted(request.query)}")

    # -- reading ------------------------------------------------------------------------------------------------------

    def _look(self, _request: Request, _key: str, _body: Iterator[memoryview]) -> Answer:
        """Whether the bucket is there, or is to be made: it always is."""
        return Answer()

    def _list(self, request: Request, _key: str, _body: Iterator[memoryview]) -> Answer:
        return _xml(list_objects(self._bucket.keys(), request.query, "bench", self._entry))

    def _entry(self, key: str) -> str:
        found = self._bucket.objects[key]
        return (
            f"<LastModified>{found.stamp}</LastModified><ETag>&quot;{found.etag}&quot;</ETag><Size>{found.size}</Size>"
            "<StorageClass>STANDARD</StorageClass>"
        )

    def _head(self, request: Request, key: str, _body: Iterator[memoryview]) -> Answer:
        return self._get(request, key, _body)

    def _get(self, request: Request, key: str, _body: Iterator[memoryview]) -> Answer:
        found = self._bucket.find(key)
        if request.headers.get("if-match", found.etag).strip('"') != found.etag:
            raise S3Error(412, "PreconditionFailed")
        answer = Answer(200, _headers(found))
        start, length = 0, found.size
        if wanted := self._range(request, found):
            start, end = wanted
            length = end - start + 1
            answer.status = 206
            answer.headers["Content-Range"] = f"bytes {start}-{end}/{found.size}"
        answer.length = length
        if content := self._bucket.contents.get(key):
            answer.slices = content.slices(start, length)
        return answer

    def _range(self, request: Request, found: Stored) -> tuple[int, int] | None:
        if number := request.query.get("partNumber"):
            if not self._tells_parts or not found.part_bytes:
                return None
            start = (int(number) - 1) * found.part_bytes
            return start, min(start + found.part_bytes, found.size) - 1
        header = request.headers.get("range")
        if header is None:
            return None
        first, _, last = header.removeprefix("bytes=").partition("-")
        if int(first) >= found.size:
            raise S3Error(416, "InvalidRange")
        return int(first), min(int(last), found.size - 1) if last else found.size - 1

    # -- writing ------------------------------------------------------------------------------------------------------

    def _put(self, request: Request, key: str, body: Iterator[memoryview]) -> Answer:
        blob = self._bucket.take(key, request.length, body, None)
        expected = request.headers.get("content-md5")
        if expected and base64.b64decode(expected).hex() != blob.md5:
            raise S3Error(400, "BadDigest")
        self._bucket.add(key, Stored(blob.md5, blob.size, (blob,), _metadata(request)))
        return Answer(200, {"ETag": f'"{blob.md5}"', "x-amz-version-id": uuid.uuid4().hex})

    def _create(self, request: Request, key: str, _body: Iterator[memoryview]) -> Answer:
        upload = Upload(key, metadata=_metadata(request))
        self._bucket.uploads[upload.upload_id] = upload
        return _text(
            f"<InitiateMultipartUploadResult><Bucket>bench</Bucket><Key>{escape(key)}</Key>"
            f"<UploadId>{upload.upload_id}</UploadId></InitiateMultipartUploadResult>"
        )

    def _upload_part(self, request: Request, key: str, body: Iterator[memoryview]) -> Answer:
        upload = self._upload(request)
        number = int(request.query["partNumber"])
        blob = self._bucket.take(key, request.length, body, number)
        expected = request.headers.get("content-md5")
        if expected and base64.b64decode(expected).hex() != blob.md5:
            raise S3Error(400, "BadDigest")
        upload.parts[number] = blob.md5, blob
        return Answer(200, {"ETag": f'"{blob.md5}"'})

    def _complete(self, request: Request, key: str, body: Iterator[memoryview]) -> Answer:
        upload = self._upload(request)
        parts = wanted_parts(upload, b"".join(map(bytes, body)))
        md5s = b"".join(bytes.fromhex(blob.md5) for _, blob in parts)
        etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"
        blobs = tuple(blob for _, blob in parts)
        self._bucket.add(key, Stored(etag, sum(blob.size for blob in blobs), blobs, upload.metadata))
        self._bucket.uploads.pop(upload.upload_id, None)
        return _text(
            f"<CompleteMultipartUploadResult><Bucket>bench</Bucket><Key>{escape(key)}</Key>"
            f"<ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
        )

    def _abort(self, request: Request, _key: str, _body: Iterator[memoryview]) -> Answer:
        self._bucket.uploads.pop(self._upload(request).upload_id, None)
        return Answer(204)

    def _delete(self, _request: Request, key: str, _body: Iterator[memoryview]) -> Answer:
        self._bucket.remove(key)
        return Answer(204)

    def _list_parts(self, request: Request, _key: str, _body: Iterator[memoryview]) -> Answer:
        return _xml(listed_parts(self._upload(request), request.query))

    def _list_uploads(self, request: Request, _key: str, _body: Iterator[memoryview]) -> Answer:
        return _xml(listed_uploads(list(self._bucket.uploads.values()), request.query))

    def _upload(self, request: Request) -> Upload:
        found = self._bucket.uploads.get(request.query.get("uploadId", ""))
        if found is None:
            raise S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return found


def _headers(found: Stored) -> dict[str, str]:
    return {
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.stored_s, usegmt=True),
        "Content-Type": "application/gzip",
        "Accept-Ranges": "bytes",
        **{f"{_META}{name}": value for name, value in found.metadata.items()},
    }


def _metadata(request: Request) -> dict[str, str]:
    return {name.removeprefix(_META): value for name, value in request.headers.items() if name.startswith(_META)}


def _xml(reply: Reply) -> Answer:
    body = reply.body if isinstance(reply.body, bytes) else b""
    return Answer(reply.status, dict(reply.headers), body)


def _text(text: str) -> Answer:
    return Answer(200, {"Content-Type": "application/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode())
