"""The source: lists flat files, and reads byte ranges of one revision of a file.

Invariants: whether a file exists is decided from a listing only (a GET of a missing key is answered 403 there); every
answer to a range GET is checked for status, ETag, Content-Range and length before a byte of it is passed on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import Part
from polyb2.core.proof import clean_etag
from polyb2.core.records import ListedObject, Revision
from polyb2.remote.clients import Account, Http
from polyb2.remote.guards import Guard
from polyb2.remote.pages import believable
from polyb2.remote.pump import Incoming
from polyb2.remote.signing import Presigner
from polyb2.remote.translate import from_body

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

LISTING = ("IsTruncated", "Name", "Bucket", "KeyCount", "MaxKeys", "Contents", "CommonPrefixes")
"""What a listing tells, an empty one as well: some of it, as not every server tells all."""
_NOT_TOLD = {Kind.REFUSED, Kind.SERVER_ERROR, Kind.CHANGED, Kind.BAD_ANSWER, Kind.NOT_FOUND, Kind.FORBIDDEN}
"""How a source answers that knows no ``partNumber``; whether the file can be read is for the GET to say."""
_PARTIAL = 206
_OK = 200
_NOT_IMPLEMENTED = 501
_ERROR_BODY_MAX = 64 * 1024


class Source:
    """The flat files of one bucket."""

    def __init__(self, account: Account, client: S3Client, http: Http, guard: Guard) -> None:
        self.guard = guard
        self._account = account
        self._client = client
        self._http = http
        self._knows_if_match = True
        self._presigner = Presigner(
            endpoint=account.endpoint,
            bucket=account.bucket,
            region=account.region,
            key_id=account.key_id,
            secret=account.secret,
        )

    async def folders(self, prefix: str) -> list[str]:
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
        await self.guard.once("list", lambda: self._client.list_objects_v2(Bucket=self._account.bucket, MaxKeys=1))

    async def own_part_bytes(self, key: str, revision: Revision, parts: int) -> int | None:
        """The part size that a composite ETag was made with; None where the source does not tell.

        Args:
            key: the file.
            revision: its ETag is a composite of ``parts`` parts.
            parts: how many; an answer that does not fit it is no answer.
        """
        try:
            answer = await self.guard.call(
                "head",
                believable(
                    Side.SOURCE,
                    "head",
                    self._client.head_object,
                    Bucket=self._account.bucket,
                    Key=key,
                    PartNumber=1,
                ),
                ("ETag",),
            )
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

    @asynccontextmanager
    async def read(
        self, key: str, revision: Revision, part: Part | None, *, fresh: bool = False
    ) -> AsyncIterator[Incoming]:
        """The bytes of a part of a revision (None: of the whole file), as they come.

        Raises:
            RemoteError: ``changed`` if the file is no longer this revision, or another kind.
        """
        headers = {"If-Match": f'"{revision.etag}"'} if self._knows_if_match else {}
        if part is not None and part.length == revision.size:
            part = None
        if part is not None:
            headers["Range"] = f"bytes={part.offset}-{part.offset + part.length - 1}"
        url = URL(self._presigner.presign("GET", key), encoded=True)
        began_s = time.monotonic()
        async with (
            self.guard.request("get"),
            self._http.session(fresh=fresh).get(url, headers=headers, allow_redirects=False) as response,
        ):
            try:
                self.guard.meters.answer_seconds[Side.SOURCE, "get"].observe(time.monotonic() - began_s)
                if response.status == _NOT_IMPLEMENTED and self._knows_if_match:
                    # The ETag of each answer is compared as well: it protects alone then.
                    self._knows_if_match = False
                    raise RemoteError(Side.SOURCE, Kind.SERVER_ERROR, "get with If-Match was answered 501")
                await _check_answer(response, revision, part)
                self.guard.accepted()
                yield Incoming(response)
            finally:
                # A body that was not read to its end is not drained: the connection goes.
                if not response.content.is_eof():
                    response.close()

    async def _list(self, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        ask = believable(Side.SOURCE, "list", self._client.list_objects_v2, Bucket=self._account.bucket, **parameters)
        return await self.guard.call("list", ask, LISTING)


async def list_folders(list_page: Callable[..., Awaitable[Mapping[str, Any]]], prefix: str) -> list[str]:
    """The next path segments below ``prefix``, by ListObjectsV2 with a delimiter."""
    names: list[str] = []
    token: dict[str, Any] = {}
    while True:
        answer = await list_page(Prefix=prefix, Delimiter="/", **token)
        names += [item["Prefix"][len(prefix) : -1] for item in answer.get("CommonPrefixes", [])]
        if not answer.get("IsTruncated"):
            return names
        token = {"ContinuationToken": answer["NextContinuationToken"]}


def listed_objects(answer: Mapping[str, Any]) -> list[ListedObject]:
    """The objects of a ListObjectsV2 answer."""
    return [
        ListedObject(
            item["Key"], int(item["Size"]), clean_etag(item["ETag"]), int(item["LastModified"].timestamp() * 1000)
        )
        for item in answer.get("Contents", [])
    ]


async def _check_answer(response: aiohttp.ClientResponse, revision: Revision, part: Part | None) -> None:
    wanted = _OK if part is None else _PARTIAL
    if response.status not in {_OK, _PARTIAL}:
        body = await response.content.read(_ERROR_BODY_MAX)
        raise from_body(Side.SOURCE, "get", response.status, response.headers, body)
    etag = clean_etag(response.headers.get("ETag", ""))
    if etag != revision.etag:
        raise RemoteError(Side.SOURCE, Kind.CHANGED, f"the file's ETag is {etag or 'missing'}, not {revision.etag}")
    length = revision.size if part is None else part.length
    if response.status != wanted:
        raise RemoteError(Side.SOURCE, Kind.BAD_ANSWER, f"get was answered {response.status} instead of {wanted}")
    if part is not None and not _is_range(response.headers.get("Content-Range", ""), part, revision.size):
        raise RemoteError(Side.SOURCE, Kind.BAD_ANSWER, "get was answered with another range")
    if response.content_length is not None and response.content_length != length:
        words = f"get announced {response.content_length} bytes instead of {length}"
        raise RemoteError(Side.SOURCE, Kind.TRUNCATED, words)


def _is_range(header: str, part: Part, size: int) -> bool:
    wanted = f"bytes {part.offset}-{part.offset + part.length - 1}"
    return header.strip() in {f"{wanted}/{size}", f"{wanted}/*"}
