"""A bucket that keeps no bytes: what each object is made of, and the MD5 of what was stored.

S3's rules (listings, ranges, Complete) are those of the sandbox; what differs is the price of a byte. Signatures are not
checked. Every PUT is answered with the MD5 of the bytes that came: see ``benchmarks/content.py`` for how that is known.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from benchmarks.content import Content
from polyb2.sandbox.exchange import S3Error
from polyb2.sandbox.multipart import Upload
from polyb2.sandbox.storage import Blob


@dataclass(frozen=True, slots=True)
class Stored:
    """An object; ``parts`` is what it was put together from."""

    etag: str
    size: int
    parts: tuple[Blob, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    part_bytes: int = 0
    stored_s: float = field(default_factory=time.time)

    @property
    def stamp(self) -> str:
        return datetime.fromtimestamp(self.stored_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Bucket:
    """Objects and unfinished uploads.

    Args:
        contents: what the source has, by key; a target compares with it.
    """

    def __init__(self, contents: dict[str, Content]) -> None:
        self.contents = contents
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self._sorted: list[str] | None = []

    def fill(self, part_bytes: int, stored_s: float) -> None:
        """Be the source: have all contents, as uploads in parts of this size left them."""
        for content in self.contents.values():
            etag = content.etag(part_bytes)
            self.add(content.key, Stored(etag, content.size, (), {}, part_bytes, stored_s))

    def clear(self) -> None:
        """Be empty again."""
        self.objects.clear()
        self.uploads.clear()
        self._sorted = []

    def add(self, key: str, stored: Stored) -> None:
        if key not in self.objects:
            self._sorted = None
        self.objects[key] = stored

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None):
            self._sorted = None

    def keys(self) -> list[str]:
        """All keys, sorted."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted

    def find(self, key: str) -> Stored:
        if key not in self.objects:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return self.objects[key]

    def identical(self) -> int:
        """How many objects are, by the MD5 of every part at its place, what the source has under their key."""
        return sum(self._is_identical(key, stored) for key, stored in list(self.objects.items()))

    def _is_identical(self, key: str, stored: Stored) -> bool:
        content, offset = self.contents.get(key), 0
        if content is None or stored.size != content.size:
            return False
        for blob in stored.parts:
            if content.md5(offset, blob.size) != blob.md5:
                return False
            offset += blob.size
        return offset == content.size

    def take(self, key: str, length: int, chunks: Iterator[memoryview], number: int | None) -> Blob:
        """Read a body to its end; its size and MD5.

        Args:
            key: whose bytes they may be.
            length: bytes of the body.
            chunks: the body.
            number: of the part, None for a whole object: where in the object the bytes may belong.
        """
        content = self.contents.get(key)
        first = next(chunks, memoryview(b""))
        for offset in _places(content, length, number):
            if content is not None and content.has(first, offset):
                return Blob(length, _compared(content, offset, length, first, chunks))
        return Blob(length, _hashed(hashlib.md5(first, usedforsecurity=False), chunks))


def _places(content: Content | None, length: int, number: int | None) -> list[int]:
    """Where a part may begin, by its number and length: parts are equal, the last is what is left."""
    if content is None:
        return []
    if number is None:
        return [0]
    return [(number - 1) * length, content.size - length]


def _compared(content: Content, offset: int, length: int, first: memoryview, chunks: Iterator[memoryview]) -> str:
    done = len(first)
    for chunk in chunks:
        if not content.has(chunk, offset + done):
            digest = hashlib.md5(usedforsecurity=False)
            for piece in content.slices(offset, done):
                digest.update(piece)
            digest.update(chunk)
            return _hashed(digest, chunks)
        done += len(chunk)
    return content.md5(offset, length)


def _hashed(digest: hashlib._Hash, chunks: Iterator[memoryview]) -> str:
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
