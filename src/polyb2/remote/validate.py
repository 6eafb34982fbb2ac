"""Validation of the answers to control calls, before anything is concluded from one.

The library parses what it finds and leaves out what it does not. A page without what its reader needs, or one that leads
back to itself, is an answer like a proxy's: an error of its side, asked again and then told, never an endless listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.remote.classify import FOREIGN

_LISTING = ("IsTruncated", "Name", "Bucket", "KeyCount", "MaxKeys", "Contents", "CommonPrefixes")
"""What a listing tells, an empty one as well: some of it, as not every server tells all."""
_HEADERS = {"ContentLength": "Content-Length", "ETag": "ETag"}
_FACTS: dict[str, tuple[str, ...]] = {"head": ("ContentLength", "ETag"), "create": ("UploadId",)}
"""What an answer must tell, by operation."""
_SOME_FACT = dict.fromkeys(("list", "list_parts", "list_uploads", "list_versions"), _LISTING)
"""Of what an answer must tell at least one, by operation: a stranger's XML parses as an answer without anything in it."""
_ENTRIES = {
    "CommonPrefixes": ("Prefix",),
    "Parts": ("PartNumber", "Size", "ETag"),
    "Uploads": ("Key", "UploadId", "Initiated"),
    "Versions": ("Key", "VersionId"),
    "DeleteMarkers": ("Key", "VersionId"),
}
"""What each entry of a list must tell; an object of a listing that lacks something is left out by ``flow/listing.py``."""
MARKERS = {
    "list": ("NextContinuationToken",),
    "list_parts": ("NextPartNumberMarker",),
    "list_uploads": ("NextKeyMarker", "NextUploadIdMarker"),
    "list_versions": ("NextKeyMarker", "NextVersionIdMarker"),
}
"""What a page that is not the last must tell, by operation."""
_SIZE_MAX = 2**63 - 1
Check = Callable[[Mapping[str, Any], Mapping[str, Any]], None]
"""Takes an answer and the parameters that were asked with; raises unless the answer can be used."""


class _LackError(Exception):
    """What every answer of the service has is not there: it was written, or changed, by somebody else."""


@contextmanager
def validated(side: Side, operation: str) -> Iterator[Check]:
    """Turn what an unusable answer raises, in the library or in the check, into an error of its side.

    Raises:
        RemoteError: ``bad_answer``.
    """
    try:
        yield lambda answer, parameters: _check(operation, answer, parameters)
    except FOREIGN:
        # Some of those are ValueErrors as well: a certificate that is not trusted, for one.
        raise
    except _LackError as error:
        raise RemoteError(side, Kind.BAD_ANSWER, f"{operation} was answered {error}") from None
    except ValueError as error:  # the library's own as well, of a number or a time that is none
        words = f"{operation} was answered with something that cannot be: {str(error)[:100]}"
        raise RemoteError(side, Kind.BAD_ANSWER, words) from None
    except LookupError as error:  # the library's own, of an entry without a name
        words = f"{operation} was answered with an entry without {str(error)[:100]}"
        raise RemoteError(side, Kind.BAD_ANSWER, words) from None


def _check(operation: str, answer: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    for fact in _FACTS.get(operation, ()):
        if fact not in answer:
            raise _LackError(f"without {_HEADERS.get(fact, fact)}, as a proxy does that changes answers")
    if (some := _SOME_FACT.get(operation)) and not any(fact in answer for fact in some):
        raise _LackError("with something that is no listing")
    for name, facts in _ENTRIES.items():
        for entry in answer.get(name, ()):
            _check_entry(name, entry, facts)
    if not answer.get("IsTruncated"):
        return
    markers = {name: answer.get(name) for name in MARKERS.get(operation, ())}
    if None in markers.values():
        raise ValueError("more pages, and not where they begin")
    if all(str(parameters.get(name.removeprefix("Next"))) == str(marker) for name, marker in markers.items()):
        raise ValueError("a page that leads back to itself")


def _check_entry(name: str, entry: Mapping[str, Any], facts: tuple[str, ...]) -> None:
    for fact in facts:
        if entry.get(fact) in {None, ""}:
            raise ValueError(f"an entry of {name} without {fact}")
    if not 0 <= entry.get("Size", 0) <= _SIZE_MAX:
        raise ValueError(f"an entry of {name} of {str(entry['Size'])[:30]} bytes")
