"""A check that bytes are a whole gzip stream: every block decodes, and length and checksum at the end are right.

Invariant: memory stays below a few hundred KiB, however large the decoded data is.
"""

from __future__ import annotations

import zlib

_MAGIC = b"\x1f\x8b"
_OUTPUT_BYTES = 64 * 1024
_GZIP_WINDOW = 31


class GzipCheck:
    """Fed with a file from its first byte to its last; see :attr:`is_broken`."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(_GZIP_WINDOW)
        self._begun = False
        self._broken = False
        self._is_gzip = True

    def copy(self) -> GzipCheck:
        """A copy of the state, for a range that may have to be read again."""
        twin = GzipCheck()
        twin.become(self)
        twin._decoder = self._decoder.copy()
        return twin

    def become(self, other: GzipCheck) -> None:
        """Take over the state of a copy."""
        self.__dict__.update(other.__dict__)

    @property
    def is_broken(self) -> bool:
        """Tell if the file began as gzip and is damaged or truncated; a file of another kind is never broken."""
        return self._is_gzip and (self._broken or (self._begun and not self._decoder.eof))

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the file, at least two at first."""
        if not self._begun and data:
            self._begun = True
            self._is_gzip = data[: len(_MAGIC)] == _MAGIC
        while data and self._is_gzip and not self._broken:
            if self._decoder.eof:
                # A file may be several gzip members, one after the other.
                self._decoder = zlib.decompressobj(_GZIP_WINDOW)
            try:
                self._decoder.decompress(data, _OUTPUT_BYTES)
            except zlib.error:
                self._broken = True
                return
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
