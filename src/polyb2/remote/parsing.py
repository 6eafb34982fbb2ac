"""Answers in XML, where one bad entry of a listing costs that entry and no other.

botocore's parser gives a page of 1,000 objects up for the one whose size is no number. Here what cannot be read of an object
is left out of it, as if it had not been said, and ``flow/listing.py`` leaves such an object out by name. Whatever else is
listed (parts, uploads, versions) is believed whole or not at all: there the parser's ValueError stands for the answer.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser
from botocore.utils import parse_timestamp as botocore_timestamp

_OBJECT = "Object"
"""botocore's name of an entry of a listing."""
_SCALARS = frozenset({"integer", "long", "string", "timestamp", "boolean"})
_TIME_MAX = 60
"""Characters of a time; botocore's guessing of longer ones takes long."""


class Parsers(AioResponseParserFactory):
    """Makes the parsers of the control clients."""

    def create_parser(self, protocol_name: str) -> Any:  # noqa: ANN401 - botocore's
        if protocol_name != "rest-xml":
            return super().create_parser(protocol_name)
        return _Parser(timestamp_parser=parse_timestamp)


_Base: Any = AioRestXMLParser
"""As Any: its type stubs know nothing of how it reads a structure."""


class _Parser(_Base):  # type: ignore[misc]
    """What cannot be read of an object of a listing is left out of it; anywhere else it is a ValueError."""

    def _parse_shape(self, shape: Any, node: Any) -> Any:  # noqa: ANN401 - botocore's
        if isinstance(node, list) and shape.type_name in _SCALARS:
            raise ValueError(f"{shape.name} is said {len(node)} times")
        return super()._parse_shape(shape, node)

    def _handle_structure(self, shape: Any, node: Any) -> Any:  # noqa: ANN401 - botocore's
        try:
            return super()._handle_structure(shape, node)
        except ValueError:
            if shape.name != _OBJECT:
                raise
        return self._readable(shape, node)

    def _readable(self, shape: Any, node: Any) -> dict[str, Any]:  # noqa: ANN401 - botocore's
        said = self._build_name_to_xml_node(node)
        found: dict[str, Any] = {}
        for name, member in shape.members.items():
            part = said.get(self._member_key_name(member, name))
            if part is not None:
                with suppress(ValueError):
                    found[name] = self._parse_shape(member, part)
        return found


def parse_timestamp(text: str) -> datetime:
    """A time of a listing. botocore's own parser guesses the format, which takes half of the time of a long listing.

    Raises:
        ValueError: it is none.
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
        raise ValueError(f"{text[:30]!r} is no time") from None
