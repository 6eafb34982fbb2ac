"""The source: lists flat files, and reads byte ranges of one revision of a file.

Invariants: whether a file exists is decided from a listing only (a GET of a missing key is answered 403 there); every
answer to a range GET is checked for status, ETag, Content-Range and length before a byte of it is passed on.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import aiohttp

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.integrity import clean_etag
from polyb2.core.parts import Part
from polyb2.core.records import ListedObject, Revision
from polyb2.remote.bucket import Bucket
from polyb2.remote.classify import from_response, is_page
from polyb2.remote.guard import Fence
from polyb2.remote.parsing import listed_objects
from polyb2.remote.pump import Incoming

_UNSUPPORTED = {
    Kind.REFUSED,
    Kind.UNSUPPORTED,
    Kind.INCONSISTENT,
    Kind.SERVER_ERROR,
    Kind.CHANGED,
    Kind.BAD_ANSWER,
    Kind.NOT_FOUND,
    Kind.FORBIDDEN,
}
"""The answers of a source that does not support ``partNumber``; whether the file can be read is decided by the GET."""
_PARTIAL = 206
_OK = 200
_NOT_IMPLEMENTED = 501


class Source:
    """The flat files of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.guard = bucket.guard
        self.folders = bucket.folders
        self.pages = bucket.pages
        self.stat = bucket.listed
        self._knows_if_match = True

    def fenced(self, fence: Fence) -> Source:
        """The same source for requests that may start only while ``fence`` permits."""
        return Source(self._bucket.fenced(fence))

    async def probe(self) -> None:
        """Make the cheapest request there is; raise the obstacle, if any."""
        await self._bucket.once("list", MaxKeys=1)

    async def same_year(self, key: str) -> list[ListedObject]:
        """The first page of the files of a key's dataset and year: all of them, if there is one a day. Not retried."""
        folder = "/".join(key.split("/")[:3])
        return listed_objects(await self._bucket.once("list", Prefix=f"{folder}/"))

    async def own_part_bytes(self, key: str, revision: Revision, parts: int) -> int | None:
        """The part size that a composite ETag was made with; None if the source does not tell.

        Args:
            key: the file.
            revision: its ETag is a composite of ``parts`` parts.
            parts: their number; an answer that does not fit it is ignored.
        """
        try:
            answer = await self._bucket.call("head", Key=key, PartNumber=1)
        except RemoteError as error:
            if error.kind in _UNSUPPORTED:
                return None
            raise
        length = int(answer["ContentLength"])
        fits = 0 < length < revision.size and -(-revision.size // length) == parts
        return length if fits and clean_etag(answer.get("ETag", "")) == revision.etag else None

    async def honours_if_match(self, key: str) -> bool:
        """Tell if a GET with another ETag in If-Match is refused; if not, only the ETag of each answer protects.

        Raises:
            RemoteError: the file cannot be read.
        """
        other = Revision(1, "0" * 32, 1, 0)
        try:
            async with self.read(key, other, Part(1, 0, 1)):
                return False
        except RemoteError as error:
            if error.kind is not Kind.CHANGED:
                raise
            return error.code is not None

    def read(
        self, key: str, revision: Revision, part: Part | None, *, fresh: bool = False, onward: Bucket | None = None
    ) -> AbstractAsyncContextManager[Incoming]:
        """The bytes of a part of a revision (None: of the whole file), as they arrive.

        Args:
            key: the file.
            revision: as it was listed.
            part: a range of it.
            fresh: on a new connection.
            onward: the bucket that they are sent to as they come.

        Raises:
            RemoteError: ``changed`` if the file is no longer this revision, or another kind.
        """
        headers = {"If-Match": f'"{revision.etag}"'} if self._knows_if_match else {}
        if part is not None and part.length == revision.size:
            part = None
        if part is not None:
            headers["Range"] = f"bytes={part.offset}-{part.offset + part.length - 1}"

        async def check(response: aiohttp.ClientResponse) -> None:
            if response.status == _NOT_IMPLEMENTED and self._knows_if_match:
                # The ETag of each answer is compared as well: it protects alone if If-Match is ignored.
                self._knows_if_match = False
                raise RemoteError(Side.SOURCE, Kind.SERVER_ERROR, "get with If-Match was answered 501")
            await _check_answer(response, revision, part)

        return self._bucket.get(key, headers, check, fresh=fresh, onward=onward)


async def _check_answer(response: aiohttp.ClientResponse, revision: Revision, part: Part | None) -> None:
    """Compare the head of an answer with the request; a status of 200 with the exact range counts as that range.

    Raises:
        RemoteError: an intermediary's answer, an error, another revision, or figures that contradict the listing.
    """
    etag = clean_etag(response.headers.get("ETag", ""))
    is_foreign = etag != revision.etag and is_page("", response.headers)
    if response.status not in {_OK, _PARTIAL} or is_foreign:
        raise await from_response(Side.SOURCE, "get", response)
    if not etag:
        words = "get was answered without an ETag, as from a proxy that changes answers"
        raise RemoteError(Side.SOURCE, Kind.BAD_ANSWER, words)
    if etag != revision.etag:
        raise RemoteError(Side.SOURCE, Kind.CHANGED, f"the file's ETag is {etag}, not {revision.etag}")
    if part is not None:
        _check_range(response, revision, part)
    length = revision.size if part is None else part.length
    if response.content_length is not None and response.content_length != length:
        asked = "the file" if part is None else f"bytes {part.offset}-{part.offset + part.length - 1}"
        words = (
            f"get of {asked} announced {response.content_length} bytes, and the listing gives {revision.size} of it all"
        )
        raise RemoteError(Side.SOURCE, Kind.INCONSISTENT, words)


def _check_range(response: aiohttp.ClientResponse, revision: Revision, part: Part) -> None:
    header = response.headers.get("Content-Range", "")
    if _is_range(header, part, revision.size):
        return
    wanted = f"bytes {part.offset}-{part.offset + part.length - 1}"
    if response.status == _OK and not header:
        found = f"get of {wanted} was answered 200, with the whole file, as from a server or proxy that ignores Range"
    else:
        found = f"get of {wanted} of {revision.size} was answered {header[:100] or 'without a Content-Range'}"
    raise RemoteError(Side.SOURCE, Kind.INCONSISTENT, found)


def _is_range(header: str, part: Part, size: int) -> bool:
    wanted = f"bytes {part.offset}-{part.offset + part.length - 1}"
    return header.strip() in {f"{wanted}/{size}", f"{wanted}/*"}
