"""The versions of the target's objects, and their representation in answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from polyb2.sandbox.exchange import Exchange, http_date
from polyb2.sandbox.storage import Blob


@dataclass(slots=True)
class Version:
    """One version of a key; ``blobs`` is None for a hide marker."""

    key: str
    version_id: str
    etag: str
    metadata: dict[str, str]
    blobs: list[Blob] | None
    created_s: float = field(default_factory=time.time)

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs or ())

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from ``offset`` over all its parts."""
        pieces: list[bytes] = []
        for blob in self.blobs or ():
            if offset < blob.size and length > 0:
                piece = blob.read(offset, min(length, blob.size - offset))
                pieces.append(piece)
                length -= len(piece)
                offset = 0
            else:
                offset -= min(offset, blob.size)
        return b"".join(pieces)


def entry_xml(version: Version | None) -> str:
    """The facts of a key in ListObjectsV2; a key that has just lost its current version is empty."""
    stamp = datetime.fromtimestamp(version.created_s if version else 0, UTC).isoformat(timespec="milliseconds")
    return (
        f"<LastModified>{stamp.replace('+00:00', 'Z')}</LastModified>"
        f"<ETag>&quot;{version.etag if version else ''}&quot;</ETag><Size>{version.size if version else 0}</Size>"
        "<StorageClass>STANDARD</StorageClass>"
    )


def version_xml(version: Version, *, is_latest: bool) -> str:
    """An entry of ListObjectVersions."""
    name = "DeleteMarker" if version.blobs is None else "Version"
    return (
        f"<{name}><Key>{escape(version.key)}</Key><VersionId>{version.version_id}</VersionId>"
        f"<IsLatest>{str(is_latest).lower()}</IsLatest><Size>{version.size}</Size></{name}>"
    )


def metadata_of(exchange: Exchange) -> dict[str, str]:
    """The user metadata of a request."""
    start = "x-amz-meta-"
    headers = exchange.request.headers
    return {
        name.lower().removeprefix(start): value for name, value in headers.items() if name.lower().startswith(start)
    }


def headers_of(version: Version) -> dict[str, str]:
    """The headers of an answer about a version."""
    return {
        "ETag": f'"{version.etag}"',
        "x-amz-version-id": version.version_id,
        "Last-Modified": http_date(version.created_s),
        "Content-Type": "application/gzip",
        **{f"x-amz-meta-{name}": value for name, value in version.metadata.items()},
    }
