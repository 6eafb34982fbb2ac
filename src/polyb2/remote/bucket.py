"""One S3 bucket of a side: its control calls, its listings and its bodies.

Invariant: there is no other way to a side. A control call goes through the guard and is validated before it is returned; a
body is received and sent through the route.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from polyb2.core.errors import Side
from polyb2.core.records import ListedObject
from polyb2.remote.guard import Fence, Guard
from polyb2.remote.parsing import Folders, listed_folders, listed_objects
from polyb2.remote.pump import Incoming
from polyb2.remote.relay import Relay
from polyb2.remote.route import Check, Route
from polyb2.remote.sessions import Account, Http
from polyb2.remote.signing import Presigner
from polyb2.remote.validate import MARKERS, validated

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_METHODS = {
    "head": "head_object",
    "head_bucket": "head_bucket",
    "list": "list_objects_v2",
    "list_parts": "list_parts",
    "list_uploads": "list_multipart_uploads",
    "list_versions": "list_object_versions",
    "create": "create_multipart_upload",
    "complete": "complete_multipart_upload",
    "abort": "abort_multipart_upload",
    "delete": "delete_object",
    "lifecycle": "get_bucket_lifecycle_configuration",
    "lock": "get_object_lock_configuration",
}
"""The client's method for each operation."""
Answer = Mapping[str, Any]


class Bucket:
    """A bucket at an endpoint, and the keys for it."""

    def __init__(self, account: Account, client: S3Client, http: Http, guard: Guard) -> None:
        self.guard = guard
        self._account = account
        self._client = client
        self._http = http
        self._route = Route(http, guard)
        self._presigner = Presigner(
            endpoint=account.endpoint,
            bucket=account.bucket,
            region=account.region,
            key_id=account.key_id,
            secret=account.secret,
        )

    @property
    def side(self) -> Side:
        return self.guard.side

    def fenced(self, fence: Fence) -> Bucket:
        """The same bucket for requests that may start only while ``fence`` permits."""
        fenced = copy.copy(self)
        fenced.guard = self.guard.fenced(fence)
        fenced._route = Route(self._http, fenced.guard)  # noqa: SLF001 - its own class
        return fenced

    # -- control calls ------------------------------------------------------------------------------------------------

    async def call(self, operation: str, **parameters: Any) -> Answer:  # noqa: ANN401 - botocore's
        """Make one control call, retried by the policy.

        Raises:
            RemoteError: the tries are used up, or the kind of error is not retried.
        """
        return await self.guard.call(operation, lambda: self._ask(operation, parameters))

    async def once(self, operation: str, **parameters: Any) -> Answer:  # noqa: ANN401 - botocore's
        """Make one control call that is not retried."""
        return await self.guard.once(operation, lambda: self._ask(operation, parameters))

    async def answers(self, operation: str, **parameters: Any) -> AsyncIterator[Answer]:  # noqa: ANN401 - botocore's
        """Make a listing call page by page, each retried by the policy."""
        marker: dict[str, Any] = {}
        while True:
            answer = await self.call(operation, **parameters, **marker)
            yield answer
            if not answer.get("IsTruncated"):
                return
            marker = {name.removeprefix("Next"): answer[name] for name in MARKERS[operation]}

    async def _ask(self, operation: str, parameters: Mapping[str, Any]) -> Answer:
        method: Callable[..., Any] = getattr(self._client, _METHODS[operation])
        with validated(self.side, operation) as check:
            answer: Answer = await method(Bucket=self._account.bucket, **parameters)
            check(answer, parameters)
        return answer

    # -- listings -----------------------------------------------------------------------------------------------------

    async def pages(self, prefix: str) -> AsyncIterator[list[ListedObject]]:
        """List the objects below a prefix, page by page, in key order."""
        async for answer in self.answers("list", Prefix=prefix):
            yield listed_objects(answer)

    async def listed(self, key: str) -> ListedObject | None:
        """The listing's entry of one key now; None if it is not listed."""
        answer = await self.call("list", Prefix=key, MaxKeys=1)
        return next((item for item in listed_objects(answer) if item.key == key), None)

    async def folders(self, prefix: str) -> Folders:
        """The next path segments below a prefix that ends in ``/`` (or is empty), without slashes."""
        return await listed_folders(self.answers("list", Prefix=prefix, Delimiter="/"), prefix)

    # -- bodies -------------------------------------------------------------------------------------------------------

    def get(
        self,
        key: str,
        headers: Mapping[str, str],
        check: Check,
        *,
        query: Mapping[str, str] | None = None,
        fresh: bool,
        onward: Bucket | None = None,
    ) -> AbstractAsyncContextManager[Incoming]:
        """The body of an answer whose head passed ``check``, as it comes.

        Args:
            key: the object's.
            headers: of the request.
            check: raises the error of the answer's head, unless it is the one that was asked for.
            query: of the URL.
            fresh: on a new connection.
            onward: the bucket that the body is sent to as it comes.
        """
        url = self._presigner.presign("GET", key, query=query or {})
        return self._route.get(url, headers, check, fresh=fresh, onward=onward.guard if onward is not None else None)

    async def put(
        self,
        operation: str,
        key: str,
        body: Relay | bytes,
        length: int,
        check: Check,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        fresh: bool,
    ) -> Mapping[str, str]:
        """Send a body; return the headers of the answer, which passed ``check``."""
        url = self._presigner.presign("PUT", key, query=query or {}, headers=headers or {})
        sent = {**(headers or {}), "Content-Length": str(length)}
        return await self._route.put(operation, url, sent, body, check, fresh=fresh)
