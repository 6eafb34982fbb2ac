"""The source: lists flat files, and reads byte ranges of one revision of a file.

Invariants: whether a file exists is decided from a listing only (a GET of a missing key is answered 403 there); every
answer to a range GET is checked for status, ETag, Content-Range and length before a byte of it is passed on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import aiohttp

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import Part
from polyb2.core.proof import clean_etag
from polyb2.core.records import ListedObject, Revision
from polyb2.remote.clients import Account, Http
from polyb2.remote.guards import Guard
from polyb2.remote.pages import Asks, believable
from polyb2.remote.pump import Incoming
from polyb2.remote.route import Route
from polyb2.remote.signing import Presigner
from polyb2.remote.translate import from_response, is_page

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

log = logging.getLogger(__name__)
_NOT_TOLD = {
    Kind.REFUSED,
    Kind.UNSUPPORTED,
    Kind.INCONSISTENT,
    Kind.SERVER_ERROR,
    Kind.CHANGED,
    Kind.BAD_ANSWER,
    Kind.NOT_FOUND,
    Kind.FORBIDDEN,
}
"""How a source answers that knows no ``partNumber``; whether the file can be read is for the GET to say."""
UNKNOWN = -1
"""A size or a time that an entry of a listing does not tell."""
FOLDERS_MAX = 10_000
"""Names below a prefix: there are nine prefixes and some thirty types."""
FOLDER_PAGES_MAX = 200
_NAME_KEPT = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARTIAL = 206
_OK = 200
_NOT_IMPLEMENTED = 501


class Folders(list[str]):
    """Names below a prefix; ``is_whole`` is False where the listing of them had no end, so that what is absent is unknown."""

    is_whole = True


class Source:
    """The flat files of one bucket."""

    def __init__(self, account: Account, client: S3Client, http: Http, guard: Guard) -> None:
        self.guard = guard
        self._account = account
        self._client = client
        self._route = Route(http, guard)
        self._knows_if_match = True
        self._presigner = Presigner(
            endpoint=account.endpoint,
            bucket=account.bucket,
            region=account.region,
            key_id=account.key_id,
            secret=account.secret,
        )

    async def folders(self, prefix: str) -> Folders:
        """The next path segments below a prefix that ends in ``/`` (or is empty), without slashes."""
        return await list_folders(self._list, prefix)

    async def pages(self, prefix: str) -> AsyncIterator[list[ListedObject]]:
        """The objects below a prefix, page by page, in key order."""
        token: dict[str, Any] = {}
        while True:
            answer = await self._list(Prefix=prefix, **token)
            yield listed_objects(answer)
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    async def stat(self, key: str) -> ListedObject | None:
        """What the listing says of one key now; None where it is not listed."""
        answer = await self._list(Prefix=key, MaxKeys=1)
        return next((item for item in listed_objects(answer) if item.key == key), None)

    async def probe(self) -> None:
        """The cheapest question there is; raises what stands in the way."""
        await self.guard.once("list", self._asked("list", self._client.list_objects_v2, MaxKeys=1))

    async def same_year(self, key: str) -> list[ListedObject]:
        """The first page of the files of a key's dataset and year, which are all where there is one a day; asked once."""
        folder = "/".join(key.split("/")[:3])
        asked = self._asked("list", self._client.list_objects_v2, Prefix=f"{folder}/")
        return listed_objects(await self.guard.once("list", asked))

    async def own_part_bytes(self, key: str, revision: Revision, parts: int) -> int | None:
        """The part size that a composite ETag was made with; None where the source does not tell.

        Args:
            key: the file.
            revision: its ETag is a composite of ``parts`` parts.
            parts: how many; an answer that does not fit it is no answer.
        """
        try:
            answer = await self.guard.call("head", self._asked("head", self._client.head_object, Key=key, PartNumber=1))
        except RemoteError as error:
            if error.kind in _NOT_TOLD:
                return None
            raise
        length = int(answer["ContentLength"])
        fits = 0 < length < revision.size and -(-revision.size // length) == parts
        return length if fits and clean_etag(answer.get("ETag", "")) == revision.etag else None

    async def honours_if_match(self, key: str) -> bool:
        """Whether a GET with another ETag in If-Match is refused; where not, the ETag of each answer is what protects.

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
        self, key: str, revision: Revision, part: Part | None, *, fresh: bool = False, onward: Guard | None = None
    ) -> AbstractAsyncContextManager[Incoming]:
        """The bytes of a part of a revision (None: of the whole file), as they come.

        Args:
            key: the file.
            revision: as it was listed.
            part: a range of it.
            fresh: on a new connection.
            onward: the guard of the side that they are sent to as they come.

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
                # The ETag of each answer is compared as well: it protects alone then.
                self._knows_if_match = False
                raise RemoteError(Side.SOURCE, Kind.SERVER_ERROR, "get with If-Match was answered 501")
            await _check_answer(response, revision, part)

        url = self._presigner.presign("GET", key)
        return self._route.get(url, headers, check, fresh=fresh, onward=onward)

    async def _list(self, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        return await self.guard.call("list", self._asked("list", self._client.list_objects_v2, **parameters))

    def _asked(self, operation: str, ask: Asks, **parameters: Any) -> Callable[[], Awaitable[Mapping[str, Any]]]:  # noqa: ANN401 - botocore's
        return believable(Side.SOURCE, operation, ask, Bucket=self._account.bucket, **parameters)


async def list_folders(list_page: Callable[..., Awaitable[Mapping[str, Any]]], prefix: str) -> Folders:
    """The next path segments below ``prefix``, by ListObjectsV2 with a delimiter."""
    names = Folders()
    token: dict[str, Any] = {}
    for _ in range(FOLDER_PAGES_MAX):
        answer = await list_page(Prefix=prefix, Delimiter="/", **token)
        # Whatever is longer is no name of a dataset, and is kept only as far as that shows.
        names += [item["Prefix"][len(prefix) : -1][:_NAME_KEPT] for item in answer.get("CommonPrefixes", [])]
        if not answer.get("IsTruncated"):
            return names
        if len(names) > FOLDERS_MAX:
            break
        token = {"ContinuationToken": answer["NextContinuationToken"]}
    log.warning("the listing below %r does not end: its first %d names count", prefix, len(names))
    names.is_whole = False
    return names


def listed_objects(answer: Mapping[str, Any]) -> list[ListedObject]:
    """The objects of a ListObjectsV2 answer; what an entry lacks shows as a size, an ETag or a time that cannot be."""
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


async def _check_answer(response: aiohttp.ClientResponse, revision: Revision, part: Part | None) -> None:
    """Compare the head of an answer with what was asked for; a status of 200 with the very range is that range.

    Raises:
        RemoteError: a stranger's answer, an error, another revision, or figures that contradict the listing.
    """
    etag = clean_etag(response.headers.get("ETag", ""))
    is_strange = etag != revision.etag and is_page("", response.headers)
    if response.status not in {_OK, _PARTIAL} or is_strange:
        raise await from_response(Side.SOURCE, "get", response)
    if not etag:
        words = "get was answered without an ETag, as a proxy does that changes answers"
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
        found = f"get of {wanted} was answered 200, with the whole file, as a server or proxy does that ignores Range"
    else:
        found = f"get of {wanted} of {revision.size} was answered {header[:100] or 'without a Content-Range'}"
    raise RemoteError(Side.SOURCE, Kind.INCONSISTENT, found)


def _is_range(header: str, part: Part, size: int) -> bool:
    wanted = f"bytes {part.offset}-{part.offset + part.length - 1}"
    return header.strip() in {f"{wanted}/{size}", f"{wanted}/*"}
