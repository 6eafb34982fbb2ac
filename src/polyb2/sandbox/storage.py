"""The storage of the target: in memory, in a folder, or as hashes only (for runs that only measure)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from polyb2.sandbox.exchange import S3Error, flipped

HASHING_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes; ``data`` or ``path``, or neither in a store that keeps hashes only."""

    size: int
    md5: str
    data: bytes | None = None
    path: Path | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from ``offset``.

        Raises:
            S3Error: only their hash was kept.
        """
        if self.data is not None:
            return self.data[offset : offset + length]
        if self.path is None:
            raise S3Error(501, "NotImplemented", "this sandbox keeps hashes only")
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


class Store:
    """Takes bodies as they come.

    Args:
        folder: where to keep them; None keeps them in memory.
        hashes_only: keep nothing but size and MD5.
    """

    def __init__(self, folder: Path | None = None, *, hashes_only: bool = False) -> None:
        self._folder = folder
        self._hashes_only = hashes_only
        self._numbers = itertools.count()

    async def take(self, body: AsyncIterator[bytes], *, flip: bool = False) -> Blob:
        """Store a body; ``flip`` changes a bit of its first byte on the way."""
        digest, size = hashlib.md5(usedforsecurity=False), 0
        pieces: list[bytes] = []
        path = self._folder / f"{next(self._numbers)}.blob" if self._folder and not self._hashes_only else None
        file = path.open("wb") if path else None
        try:
            async for chunk in body:
                piece = flipped(chunk, 0) if flip and not size else chunk
                digest.update(piece)
                size += len(piece)
                if file:
                    file.write(piece)
                elif not self._hashes_only:
                    pieces.append(piece)
        except BaseException:  # a client that hung up cancels this; raised again
            if path:
                path.unlink(missing_ok=True)
            raise
        finally:
            if file:
                file.close()
        data = None if path or self._hashes_only else b"".join(pieces)
        return Blob(size, digest.hexdigest(), data, path)
