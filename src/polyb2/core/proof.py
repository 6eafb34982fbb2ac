"""The arithmetic of ETags, and the names of the proofs that a transfer can have.

Invariant: a proof is only as strong as what was compared; nothing is proven by an ETag of unknown form.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

_MD5 = re.compile(r"[0-9a-f]{32}")
_COMPOSITE = re.compile(r"([0-9a-f]{32})-([1-9]\d{0,4})")


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
