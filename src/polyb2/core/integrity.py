"""The evidence that bytes are whole: the forms of ETags and their arithmetic, and a check of gzip streams.

Invariants: a proof is only as strong as what was compared, and nothing is proven by an ETag of unknown form. The check
of a stream takes less than a few hundred KiB of memory, however large the decoded data is.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from enum import StrEnum

_MD5 = re.compile(r"[0-9a-f]{32}")
_COMPOSITE = re.compile(r"([0-9a-f]{32})-([1-9]\d{0,4})")
_MAGIC = b"\x1f\x8b"
_OUTPUT_BYTES = 64 * 1024
_GZIP_WINDOW = 31


class Verification(StrEnum):
    """The way in which a completed file was proven (``verification`` in the JSON)."""

    ETAG = "etag"
    PARTS = "parts"
    READBACK = "readback"


class ProofMark(StrEnum):
    """``polyb2-proof`` in the object's metadata: proven before or after publishing."""

    BEFORE = "before"
    READBACK = "readback"


def clean_etag(raw: str) -> str:
    """Normalise an ETag for comparison: no quotes, no weakness mark, lower case if it has the form of an MD5."""
    stripped = _as_text(raw).strip()
    bare = (stripped[2:] if stripped.startswith('W/"') else stripped).strip('"')
    lowered = bare.lower()
    return lowered if _MD5.fullmatch(lowered) or _COMPOSITE.fullmatch(lowered) else bare


def _as_text(raw: str) -> str:
    """Decode a header: bytes that are not UTF-8 were kept as surrogates, and mean Latin-1 (RFC 9110, 5.5)."""
    if raw.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in raw):
        return raw
    return raw.encode("utf-8", "surrogateescape").decode("latin-1")


def md5_form(etag: str) -> str | None:
    """The ETag, where it has the form of an MD5 (which it need not be)."""
    return etag if _MD5.fullmatch(etag) else None


def composite_parts(etag: str) -> int | None:
    """N of a composite ETag ``md5(md5s)-N``, else None."""
    match = _COMPOSITE.fullmatch(etag)
    return int(match[2]) if match else None


def composite(part_md5s: list[str]) -> str | None:
    """The composite ETag of parts with these MD5s (hex), or None if one of them has not the form of an MD5."""
    if not all(map(md5_form, part_md5s)):
        return None
    digest = hashlib.md5(b"".join(map(bytes.fromhex, part_md5s)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(part_md5s)}"


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
