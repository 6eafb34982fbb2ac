"""Validation of the answers to control calls, before anything is concluded from one.

The library parses what it finds and leaves out what it does not. A page that lacks a required field, or that leads
back to itself, is treated like a proxy's answer: an error of its side, retried and then reported, never an endless listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.classify import FOREIGN

_LISTING = ("IsTruncated", "Name", "Bucket", "KeyCount", "MaxKeys", "Contents", "CommonPrefixes")
"""Elements of every listing, an empty one included: at least one must be present, as not every server sends all."""
_HEADERS = {"ContentLength": "Content-Length", "ETag": "ETag"}
_FACTS: dict[str, tuple[str, ...]] = {"head": ("ContentLength", "ETag"), "create": ("UploadId",)}
"""Elements that an answer must have, by operation."""
_SOME_FACT = dict.fromkeys(("list", "list_parts", "list_uploads", "list_versions"), _LISTING)
"""Elements of which an answer must have at least one, by operation: an intermediary's XML parses as an answer without any."""
_ENTRIES = {
    "CommonPrefixes": ("Prefix",),
    "Parts": ("PartNumber", "Size", "ETag"),
    "Uploads": ("Key", "UploadId", "Initiated"),
    "Versions": ("Key", "VersionId"),
    "DeleteMarkers": ("Key", "VersionId"),
}
"""Elements of each entry of a list; a listed object that lacks one is left out by ``flow/discover/listed.py``."""
MARKERS = {
    "list": ("NextContinuationToken",),
    "list_parts": ("NextPartNumberMarker",),
    "list_uploads": ("NextKeyMarker", "NextUploadIdMarker"),
    "list_versions": ("NextKeyMarker", "NextVersionIdMarker"),
}
"""Elements that a page must have if it is not the last, by operation."""
_SIZE_MAX = 2**63 - 1
Check = Callable[[Mapping[str, Any], Mapping[str, Any]], None]
"""Checks an answer against the parameters of its request; raises unless the answer can be used."""


class _LackError(Exception):
    """An answer lacks what every answer of the service has: an intermediary wrote or changed it."""


@contextmanager
def validated(side: Side, operation: str) -> Iterator[Check]:
    """Turn an unusable answer, found by the library or by the check, into an error of its side.

    Raises:
        RemoteError: ``bad_answer``.
    """
    try:
        yield lambda answer, parameters: _check(operation, answer, parameters)
    except FOREIGN:
        # Some of those are ValueErrors as well, such as an untrusted certificate.
        raise
    except _LackError as error:
        raise RemoteError(side, Kind.BAD_ANSWER, f"{operation} was answered {error}") from None
    except ValueError as error:  # the library's own as well, of an invalid number or time
        words = f"{operation} was answered with something impossible: {str(error)[:100]}"
        raise RemoteError(side, Kind.BAD_ANSWER, words) from None
    except LookupError as error:  # the library's own, of an entry without a name
        words = f"{operation} was answered with an entry without {str(error)[:100]}"
        raise RemoteError(side, Kind.BAD_ANSWER, words) from None


def _check(operation: str, answer: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    for fact in _FACTS.get(operation, ()):
        if fact not in answer:
            raise _LackError(f"without {_HEADERS.get(fact, fact)}, as from a proxy that changes answers")
    if (some := _SOME_FACT.get(operation)) and not any(fact in answer for fact in some):
        raise _LackError("with something other than a listing")
    for name, facts in _ENTRIES.items():
        for entry in answer.get(name, ()):
            _check_entry(name, entry, facts)
    if not answer.get("IsTruncated"):
        return
    markers = {name: answer.get(name) for name in MARKERS.get(operation, ())}
    if None in markers.values():
        raise ValueError("more pages, but not where they begin")
    if all(str(parameters.get(name.removeprefix("Next"))) == str(marker) for name, marker in markers.items()):
        raise ValueError("a page that leads back to itself")


def _check_entry(name: str, entry: Mapping[str, Any], facts: tuple[str, ...]) -> None:
    for fact in facts:
        if entry.get(fact) in {None, ""}:
            raise ValueError(f"an entry of {name} without {fact}")
    if not 0 <= entry.get("Size", 0) <= _SIZE_MAX:
        raise ValueError(f"an entry of {name} of {str(entry['Size'])[:30]} bytes")
