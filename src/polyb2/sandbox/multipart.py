"""Unfinished uploads of the target: their parts, the lists of them, and the rules of Complete."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from polyb2.sandbox.exchange import Reply, S3Error, xml_reply
from polyb2.sandbox.storage import Blob

PART_BYTES_MIN = 5_000_000
PARTS_MAX = 10_000
PAGE = 1000


@dataclass(slots=True)
class Upload:
    """An upload that was begun; ``parts`` has ETag and bytes by number."""

    key: str
    upload_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    metadata: dict[str, str] = field(default_factory=dict)
    parts: dict[int, tuple[str, Blob]] = field(default_factory=dict)
    initiated_s: float = field(default_factory=time.time)


def _stamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def listed_parts(upload: Upload, query: Mapping[str, str]) -> Reply:
    """A ListParts answer."""
    after, limit = int(query.get("part-number-marker", 0)), min(int(query.get("max-parts", PAGE)), PAGE)
    numbers = [number for number in sorted(upload.parts) if number > after]
    shown = numbers[:limit]
    items = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{upload.parts[number][0]}&quot;</ETag>"
        f"<Size>{upload.parts[number][1].size}</Size><LastModified>{_stamp(upload.initiated_s)}</LastModified></Part>"
        for number in shown
    )
    truncated = len(numbers) > len(shown)
    return xml_reply(
        f"<ListPartsResult><Key>{escape(upload.key)}</Key><UploadId>{upload.upload_id}</UploadId>"
        f"<NextPartNumberMarker>{shown[-1] if shown else after}</NextPartNumberMarker><MaxParts>{limit}</MaxParts>"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{items}</ListPartsResult>"
    )


def listed_uploads(uploads: Iterable[Upload], query: Mapping[str, str]) -> Reply:
    """A ListMultipartUploads answer."""
    prefix, limit = query.get("prefix", ""), min(int(query.get("max-uploads", PAGE)), PAGE)
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    found = sorted(
        (item for item in uploads if item.key.startswith(prefix) and (item.key, item.upload_id) > marker),
        key=lambda item: (item.key, item.upload_id),
    )
    shown = found[:limit]
    items = "".join(
        f"<Upload><Key>{escape(item.key)}</Key><UploadId>{item.upload_id}</UploadId>"
        f"<Initiated>{_stamp(item.initiated_s)}</Initiated></Upload>"
        for item in shown
    )
    last = shown[-1] if shown else Upload("")
    return xml_reply(
        f"<ListMultipartUploadsResult><NextKeyMarker>{escape(last.key)}</NextKeyMarker>"
        f"<NextUploadIdMarker>{last.upload_id}</NextUploadIdMarker><MaxUploads>{limit}</MaxUploads>"
        f"<IsTruncated>{'true' if len(found) > len(shown) else 'false'}</IsTruncated>{items}</ListMultipartUploadsResult>"
    )


def wanted_parts(upload: Upload, body: bytes) -> list[tuple[str, Blob]]:
    """The parts that a Complete names, checked as S3 does.

    Raises:
        S3Error: a part is missing, wrong, out of order or too small.
    """
    root = ET.fromstring(body)  # noqa: S314 - signed by our own client, on loopback
    named: list[tuple[int, str]] = []
    for part in (item for item in root if item.tag.endswith("Part")):
        facts = {item.tag.rpartition("}")[2]: (item.text or "").strip('"') for item in part}
        named.append((int(facts["PartNumber"]), facts["ETag"]))
    numbers = [number for number, _ in named]
    if not named or len(named) > PARTS_MAX:
        raise S3Error(400, "MalformedXML", "no parts, or too many")
    if numbers != sorted(set(numbers)):
        raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    for number, etag in named:
        if number not in upload.parts or upload.parts[number][0] != etag:
            raise S3Error(400, "InvalidPart", f"Part {number} could not be found or has another ETag.")
    parts = [upload.parts[number] for number in numbers]
    if any(blob.size < PART_BYTES_MIN for _, blob in parts[:-1]):
        raise S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
    return parts
