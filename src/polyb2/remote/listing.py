"""Answers of ListObjectsV2 as records: objects and folders; a bad entry costs itself, and a listing without end is cut."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from polyb2.core.proof import clean_etag
from polyb2.core.records import ListedObject

log = logging.getLogger(__name__)
UNKNOWN = -1
"""A size or a time that an entry of a listing does not tell."""
FOLDERS_MAX = 10_000
"""Names below a prefix: there are nine prefixes and some thirty types."""
FOLDER_PAGES_MAX = 200
_NAME_KEPT = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Folders(list[str]):
    """Names below a prefix; ``is_whole`` is False where the listing of them had no end, so that what is absent is unknown."""

    is_whole = True


async def listed_folders(answers: AsyncIterator[Mapping[str, Any]], prefix: str) -> Folders:
    """The next path segments below ``prefix``, of answers with a delimiter."""
    names, pages = Folders(), 0
    async for answer in answers:
        # Whatever is longer is no name of a dataset, and is kept only as far as that shows.
        names += [item["Prefix"][len(prefix) : -1][:_NAME_KEPT] for item in answer.get("CommonPrefixes", [])]
        pages += 1
        if answer.get("IsTruncated") and (len(names) > FOLDERS_MAX or pages >= FOLDER_PAGES_MAX):
            log.warning("the listing below %r does not end: its first %d names count", prefix, len(names))
            names.is_whole = False
            break
    return names


def listed_objects(answer: Mapping[str, Any]) -> list[ListedObject]:
    """The objects of an answer; what an entry lacks shows as a size, an ETag or a time that cannot be."""
    return [_listed(item) for item in answer.get("Contents", []) if item.get("Key")]


def _listed(item: Mapping[str, Any]) -> ListedObject:
    modified = item.get("LastModified")
    return ListedObject(
        item["Key"],
        int(item.get("Size", UNKNOWN)),
        _sendable(clean_etag(item.get("ETag") or "")),
        UNKNOWN if modified is None else int(modified.timestamp() * 1000),
    )


def _sendable(etag: str) -> str:
    """An ETag as a header can hold it; with a control character in it, it is none."""
    return "" if _CONTROL.search(etag) else etag
