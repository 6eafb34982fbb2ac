"""The Polygon-like source: an open listing, and a GET that is answered 403 for anything that the plan or the day lacks."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from datetime import UTC, datetime

from polyb2.sandbox.exchange import Exchange, Reply, S3Error, http_date
from polyb2.sandbox.objects import Content, InMemory, SourceObject
from polyb2.sandbox.server import SandboxServer, list_objects


class SourceServer(SandboxServer):
    """Flat files, read-only to its clients.

    Attributes:
        entitled: tells which keys the plan includes.
        honours_if_match: answer 412 where If-Match does not match (the real service: not known).
        answers_part_number: answer ``?partNumber=`` for composite objects (the real service: not known).
    """

    def __init__(self) -> None:
        super().__init__("flatfiles", "11111111-2222-3333-4444-555555555555", "source-secret-for-the-sandbox")
        self.entitled: Callable[[str], bool] = lambda _key: True
        self.honours_if_match = True
        self.answers_part_number = True
        self._objects: dict[str, SourceObject] = {}
        self._keys: list[str] = []

    def put(
        self,
        key: str,
        content: bytes | Content,
        *,
        part_bytes: int | None = None,
        opaque_etag: str | None = None,
        content_encoding: str | None = None,
        last_modified_s: float | None = None,
    ) -> SourceObject:
        """Publish an object, or replace it."""
        body = InMemory(content) if isinstance(content, bytes) else content
        made = SourceObject(body, part_bytes, opaque_etag, content_encoding)
        if last_modified_s is not None:
            made.last_modified_s = last_modified_s
        if key not in self._objects:
            bisect.insort(self._keys, key)
        self._objects[key] = made
        return made

    def remove(self, key: str) -> None:
        """Take an object away."""
        del self._objects[key]
        self._keys.remove(key)

    def object(self, key: str) -> SourceObject:
        return self._objects[key]

    def keys(self) -> list[str]:
        return list(self._keys)

    def operation(self, method: str, key: str, query: dict[str, str]) -> str:
        if method == "GET" and not key:
            return "list"
        if method in {"GET", "HEAD"} and key:
            return method.lower()
        return super().operation(method, key, query)

    async def on_list(self, exchange: Exchange) -> Reply:
        return list_objects(self._keys, exchange.query, self.bucket, self._entry)

    def _entry(self, key: str) -> str:
        found = self._objects[key]
        stamp = datetime.fromtimestamp(found.last_modified_s, UTC).isoformat(timespec="milliseconds")
        return (
            f"<LastModified>{stamp.replace('+00:00', 'Z')}</LastModified><ETag>&quot;{found.etag}&quot;</ETag>"
            f"<Size>{found.content.size}</Size><StorageClass>STANDARD</StorageClass><Type>Normal</Type>"
        )

    async def on_head(self, exchange: Exchange) -> Reply:
        return self._read(exchange)

    async def on_get(self, exchange: Exchange) -> Reply:
        return self._read(exchange)

    def _read(self, exchange: Exchange) -> Reply:
        found = self._objects.get(exchange.key)
        if found is None or not self.entitled(exchange.key):
            raise S3Error(403, "AccessDenied", "You are not entitled to this data")
        wanted = exchange.request.headers.get("If-Match")
        if wanted is not None and self.honours_if_match and wanted.strip('"') != found.etag:
            raise S3Error(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold")
        headers = {
            "ETag": f'"{found.etag}"',
            "Last-Modified": http_date(found.last_modified_s),
            "Content-Type": "application/gzip",
            "Accept-Ranges": "bytes",
        }
        if found.content_encoding:
            headers["Content-Encoding"] = found.content_encoding
        if exchange.key.startswith("us_stocks_sip/"):
            headers["x-amz-meta-entitlement-data-type"] = "stocks"
        if exchange.part is not None and found.part_bytes and self.answers_part_number:
            return self._part(found, exchange.part, headers)
        return ranged(found.content.size, found.content.read, headers, exchange.request.headers.get("Range"))

    def _part(self, found: SourceObject, number: int, headers: dict[str, str]) -> Reply:
        part_bytes = found.part_bytes or 1
        count = -(-found.content.size // part_bytes)
        headers["x-amz-mp-parts-count"] = str(count)
        last = min(number * part_bytes, found.content.size) - 1
        return ranged(found.content.size, found.content.read, headers, f"bytes={(number - 1) * part_bytes}-{last}")


def ranged(size: int, read: Callable[[int, int], bytes], headers: dict[str, str], wanted: str | None) -> Reply:
    """The object, or the range of it that a Range header asks for.

    Raises:
        S3Error: the range lies beyond the object's end.
    """
    if wanted is None:
        return Reply(200, headers, read, size)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Reply(206, headers, lambda offset, length: read(start + offset, length), end - start + 1)
