"""Objects of the source: bytes in memory, or a valid gzip file of any size that is made as it is read."""

from __future__ import annotations

import gzip
import hashlib
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

READ_BYTES = 1 << 20
_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])
_ROW = "O:SPY240119C00{strike:06}000,{bid},{size},{ask},{size},{time},{seq}\n"


class Content(Protocol):
    """The source of an object's bytes."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """Bytes as they are."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class GeneratedGzip:
    """A gzip file of stored deflate blocks over a repeated page of CSV: any size, no memory, read at any place.

    Args:
        size: about how many bytes; it comes out at a whole number of blocks, see :attr:`size`.
        seed: another seed, other bytes.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self._page = _page(seed)
        length = struct.pack("<HH", len(self._page), len(self._page) ^ 0xFFFF)
        self._block = b"\x00" + length + self._page
        self._blocks = max(1, (size - len(_HEADER) - 8) // len(self._block))
        self._tiled = self._block * (READ_BYTES // len(self._block) + 2)

    @property
    def size(self) -> int:
        return len(_HEADER) + self._blocks * len(self._block) + 8

    @cached_property
    def _trailer(self) -> bytes:
        checksum = 0
        for _ in range(self._blocks):
            checksum = zlib.crc32(self._page, checksum)
        return struct.pack("<II", checksum, (self._blocks * len(self._page)) & 0xFFFFFFFF)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, at most ``length`` of them."""
        end, pieces = min(offset + length, self.size), []
        while offset < end:
            piece = self._piece(offset, end - offset)
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _piece(self, offset: int, length: int) -> bytes:
        body, last = offset - len(_HEADER), (self._blocks - 1) * len(self._block)
        if body < 0:
            return _HEADER[offset : offset + length]
        if body < last:
            start = body % len(self._block)
            return self._tiled[start : start + min(length, READ_BYTES, last - body)]
        final = b"\x01" + self._block[1:] + self._trailer
        return final[body - last : body - last + length]


def _page(seed: int) -> bytes:
    """64 KB of plausible option quotes."""
    rows = ["ticker,ask_price,ask_size,bid_price,bid_size,sip_timestamp,sequence_number\n"]
    size = len(rows[0])
    number = seed * 7919
    while size < 65_000:  # noqa: PLR2004 - a stored block holds 65,535 bytes at most
        number += 1
        row = _ROW.format(
            strike=300 + number % 400,
            bid=1 + number % 97 / 100,
            ask=1 + number % 89 / 100,
            size=number % 50,
            time=1_704_206_400_000_000_000 + number * 1_000_003,
            seq=number,
        )
        rows.append(row)
        size += len(row)
    return "".join(rows).encode()


@dataclass(slots=True)
class SourceObject:
    """An object as the source has it; the ETag is made when first asked for.

    Attributes:
        content: its bytes.
        part_bytes: the ETag is a composite of parts of this size; None gives the plain MD5.
        opaque_etag: an ETag of no known form instead.
    """

    content: Content
    part_bytes: int | None = None
    opaque_etag: str | None = None
    content_encoding: str | None = None
    last_modified_s: float = field(default_factory=time.time)
    _etag: str | None = None

    @property
    def etag(self) -> str:
        if self._etag is None:
            self._etag = self.opaque_etag or self._hashed()
        return self._etag

    def _hashed(self) -> str:
        if self.part_bytes is None:
            return md5_of(self._chunks(0, self.content.size))
        digests = [
            bytes.fromhex(md5_of(self._chunks(start, min(start + self.part_bytes, self.content.size))))
            for start in range(0, max(1, self.content.size), self.part_bytes)
        ]
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end, READ_BYTES):
            yield self.content.read(offset, min(READ_BYTES, end - offset))


def md5_of(chunks: Iterator[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def csv_gz(header: str, rows: list[str]) -> bytes:
    """A small flat file; the same rows are the same bytes."""
    return gzip.compress("\n".join([header, *rows, ""]).encode(), mtime=0)
