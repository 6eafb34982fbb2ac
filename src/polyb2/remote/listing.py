"""Answers of ListObjectsV2 as records, objects and folders: a bad entry costs only itself, and an endless listing is cut."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from polyb2.core.proof import clean_etag
from polyb2.core.records import ListedObject

log = logging.getLogger(__name__)
UNKNOWN = -1
"""A size or a time that is missing from an entry of a listing."""
FOLDERS_MAX = 10_000
"""Names below a prefix: there are nine prefixes and some thirty types."""
FOLDER_PAGES_MAX = 200
_NAME_KEPT = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Folders(list[str]):
    """Names below a prefix; ``is_whole`` is False if their listing did not end, so that an absent name may still exist."""

    is_whole = True


async def listed_folders(answers: AsyncIterator[Mapping[str, Any]], prefix: str) -> Folders:
    """The next path segments below ``prefix``, from answers with a delimiter."""
    names, pages = Folders(), 0
    async for answer in answers:
        # Anything longer is not the name of a dataset, and is kept only as far as needed to show that.
        names += [item["Prefix"][len(prefix) : -1][:_NAME_KEPT] for item in answer.get("CommonPrefixes", [])]
        pages += 1
        if answer.get("IsTruncated") and (len(names) > FOLDERS_MAX or pages >= FOLDER_PAGES_MAX):
            log.warning("the listing below %r does not end: its first %d names count", prefix, len(names))
            names.is_whole = False
            break
    return names


def listed_objects(answer: Mapping[str, Any]) -> list[ListedObject]:
    """The objects of an answer; a missing field becomes an impossible size, ETag or time."""
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
    """An ETag that a header can hold; one with a control character counts as missing."""
    return "" if _CONTROL.search(etag) else etag
