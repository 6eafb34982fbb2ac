"""The metadata of each object, both ways: our token and proof, and the source's time in two conventions.

One codec for every writer and every reader. Metadata travels in HTTP headers, which carry ASCII without white space at the
ends, and servers change it on the way: names come back in lower case, Ceph RGW turns ``_`` in names into ``-``, and some
servers wrap values as RFC 2047 words. An ETag may be any text: it is percent-encoded, so that what was sent can be read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import quote, unquote

from polyb2.core.integrity import ProofMark, clean_etag

_TOKEN, _SOURCE_ETAG, _PROOF, _VERSION = "polyb2-token", "polyb2-source-etag", "polyb2-proof", "polyb2-version"
_MTIME, _MODIFIED = "mtime", "src_last_modified_millis"
_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Stamp:
    """Our marks on an object; what it does not carry, or not in our form, is None.

    Attributes:
        token: the random mark of the upload or PUT that made it.
        source_etag: of the revision that it holds.
        proof: whether it was proven before or after it was published.
        version: of polyb2.
        mtime_ms: the source's LastModified, as rclone reads it.
        modified_ms: the same, as Backblaze's tools read it.
    """

    token: str | None = None
    source_etag: str | None = None
    proof: ProofMark | None = None
    version: str | None = None
    mtime_ms: int | None = None
    modified_ms: int | None = None

    def to_headers(self) -> dict[str, str]:
        """Names without ``x-amz-meta-``; values are ASCII without white space."""
        values = {
            _TOKEN: self.token,
            # Nothing that a server could take for its own encoding: "=" and "?" are encoded as well.
            _SOURCE_ETAG: None if self.source_etag is None else quote(self.source_etag, "", errors="surrogatepass"),
            _PROOF: self.proof,
            _VERSION: self.version,
            _MTIME: None if self.mtime_ms is None else f"{self.mtime_ms // 1000}.{self.mtime_ms % 1000:03}",
            _MODIFIED: None if self.modified_ms is None else str(self.modified_ms),
        }
        return {name: str(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Stamp:
        """The marks among an object's metadata, whoever wrote it."""
        values = {_folded(name): _unwrapped(value) for name, value in headers.items()}
        etag, mtime = values.get(_SOURCE_ETAG), values.get(_MTIME)
        return cls(
            token=values.get(_TOKEN),
            source_etag=None if etag is None else _unquoted(etag),
            proof=_proof(values.get(_PROOF)),
            version=values.get(_VERSION),
            mtime_ms=None if mtime is None else _milliseconds(mtime),
            modified_ms=_whole_number(values.get(_folded(_MODIFIED))),
        )

    def is_of(self, etag: str) -> bool:
        """Tell if it names the revision with this ETag, also where another tool wrote the ETag with its quotes."""
        return self.source_etag is not None and etag in {self.source_etag, clean_etag(self.source_etag)}

    def changed(self, seen: Stamp) -> list[str]:
        """The names of the marks that ``seen``, read back from the target, lacks or has with another value."""
        theirs = seen.to_headers()
        return sorted(name for name, value in self.to_headers().items() if theirs.get(name) != value)


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def _unwrapped(value: str) -> str:
    """Remove RFC 2047 encoding, which no value that we write resembles."""
    stripped = value.strip()
    if not (stripped.startswith("=?") and stripped.endswith("?=")):
        return stripped
    try:
        words = decode_header(stripped)
        return "".join(
            word if isinstance(word, str) else word.decode(charset or "ascii", "replace") for word, charset in words
        )
    except (HeaderParseError, LookupError, ValueError):
        return stripped


def _unquoted(value: str) -> str | None:
    """The text behind a percent-encoded value; None where it was never one of ours."""
    try:
        return unquote(value, errors="surrogatepass")
    except UnicodeDecodeError:
        return None


def _proof(value: str | None) -> ProofMark | None:
    return ProofMark(value) if value in set(ProofMark) else None


def _whole_number(value: str | None) -> int | None:
    """A number of milliseconds; nothing longer than a time can be is parsed."""
    digits = value or ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX else None


def _milliseconds(seconds: str) -> int | None:
    """Milliseconds from seconds with a fraction, as rclone writes them."""
    whole, _, fraction = seconds.partition(".")
    return _whole_number(whole + (fraction + "000")[:3])
