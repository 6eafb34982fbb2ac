"""Answers in XML as records: one bad entry of a listing costs that entry and no other, and an endless listing is cut.

botocore's parser rejects a page of 1,000 objects for one whose size is not a number. Here an unreadable field of an object
is treated as missing, and ``flow/discover/listed.py`` leaves such an object out by name. Any other
list (parts, uploads, versions) is accepted whole or not at all: there the parser raises ValueError for the whole answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser
from botocore.utils import parse_timestamp as botocore_timestamp

from polyb2.core.integrity import clean_etag
from polyb2.core.records import ListedObject

log = logging.getLogger(__name__)
_OBJECT = "Object"
"""botocore's name of an entry of a listing."""
_SCALARS = frozenset({"integer", "long", "string", "timestamp", "boolean"})
_TIME_MAX = 60
"""Characters of a time; botocore's guessing of longer ones takes long."""
_Base: Any = AioRestXMLParser
"""Typed as Any: its type stubs do not describe how it reads a structure."""
UNKNOWN = -1
"""A size or a time that is missing from an entry of a listing."""
FOLDERS_MAX = 10_000
"""Names below a prefix: there are nine prefixes and some thirty types."""
FOLDER_PAGES_MAX = 200
_NAME_KEPT = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Parsers(AioResponseParserFactory):
    """Makes the parsers of the control clients."""

    def create_parser(self, protocol_name: str) -> Any:  # noqa: ANN401 - botocore's
        if protocol_name != "rest-xml":
            return super().create_parser(protocol_name)
        return _Parser(timestamp_parser=parse_timestamp)


class _Parser(_Base):  # type: ignore[misc]
    """A parser that leaves an unreadable field of a listed object out; anywhere else it raises ValueError."""

    def _parse_shape(self, shape: Any, node: Any) -> Any:  # noqa: ANN401 - botocore's
        if isinstance(node, list) and shape.type_name in _SCALARS:
            raise ValueError(f"{shape.name} occurs {len(node)} times")
        return super()._parse_shape(shape, node)

    def _handle_structure(self, shape: Any, node: Any) -> Any:  # noqa: ANN401 - botocore's
        try:
            return super()._handle_structure(shape, node)
        except ValueError:
            if shape.name != _OBJECT:
                raise
        return self._readable(shape, node)

    def _readable(self, shape: Any, node: Any) -> dict[str, Any]:  # noqa: ANN401 - botocore's
        elements = self._build_name_to_xml_node(node)
        found: dict[str, Any] = {}
        for name, member in shape.members.items():
            part = elements.get(self._member_key_name(member, name))
            if part is not None:
                with suppress(ValueError):
                    found[name] = self._parse_shape(member, part)
        return found


def parse_timestamp(text: str) -> datetime:
    """Parse a time of a listing. botocore's own parser guesses the format, which takes half of the time of a long listing.

    Raises:
        ValueError: the text is not a time.
    """
    if len(text) > _TIME_MAX:
        raise ValueError("a time that is longer than any")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _guessed(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _guessed(text: str) -> datetime:
    try:
        return botocore_timestamp(text)
    except (RuntimeError, ArithmeticError, TypeError, LookupError):
        raise ValueError(f"{text[:30]!r} is not a time") from None


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
