"""What the objects of a benchmark hold: bytes that follow from key and place alone, so that any size takes no memory.

Both servers know them: the source sends slices of one tile, and the target finds the MD5 of what it got by comparing it with
what the source has there. Equal bytes have equal MD5s, so its ETags are honest at the price of a comparison; what differs
is hashed. The period of the tile is a prime, so that the parts of an object differ from each other whatever their size.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PERIOD_BYTES = 7 * (1 << 20) + 1
SLICE_BYTES = 1 << 20
_BYTES = random.Random(0).randbytes(PERIOD_BYTES)  # noqa: S311 - test data
TILE = _BYTES + _BYTES[:SLICE_BYTES]
"""One period, and the beginning of the next, so that every slice is in one piece."""
_VIEW = memoryview(TILE)
_md5s: dict[tuple[int, int], str] = {}
"""MD5s by place in the tile and length: each range of an object is hashed once in the life of a server."""


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one object.

    Attributes:
        key: another key, other bytes.
        size: how many.
    """

    key: str
    size: int

    @property
    def phase(self) -> int:
        """Where in the tile the object begins."""
        return zlib.crc32(self.key.encode()) % PERIOD_BYTES

    def slices(self, offset: int, length: int) -> Iterator[memoryview]:
        """The bytes of a range, in slices of ``SLICE_BYTES`` at most, none copied."""
        start = self.phase + offset
        for done in range(0, length, SLICE_BYTES):
            place = (start + done) % PERIOD_BYTES
            yield _VIEW[place : place + min(SLICE_BYTES, length - done)]

    def has(self, chunk: memoryview, offset: int) -> bool:
        """Whether these bytes, ``SLICE_BYTES`` at most, are the object's from ``offset``."""
        return offset + len(chunk) <= self.size and TILE.startswith(chunk, (self.phase + offset) % PERIOD_BYTES)

    def md5(self, offset: int, length: int) -> str:
        """MD5 of a range, hex."""
        place = (self.phase + offset) % PERIOD_BYTES, length
        if place not in _md5s:
            digest = hashlib.md5(usedforsecurity=False)
            for piece in self.slices(offset, length):
                digest.update(piece)
            _md5s[place] = digest.hexdigest()
        return _md5s[place]

    def etag(self, part_bytes: int) -> str:
        """The ETag of an upload in parts of this size: the composite, or the plain MD5 of what went in one piece."""
        if self.size <= part_bytes:
            return self.md5(0, self.size)
        md5s = [
            bytes.fromhex(self.md5(start, min(part_bytes, self.size - start)))
            for start in range(0, self.size, part_bytes)
        ]
        return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"
