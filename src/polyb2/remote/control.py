"""One control call over the wire: sent to the host that it names; its answer is checked before botocore parses it.

botocore follows redirects, corrects a region by asking again, and reads any answer into memory. Here nothing is followed,
an answer longer than any that S3 sends is dropped while it arrives, and an error never reaches botocore at all: the errors
of both HTTP stacks are classed in one place (``classify.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from multidict import CIMultiDict
from yarl import URL

from polyb2.core.scrub import one_line
from polyb2.remote.classify import AnswerError, UnusableError, error_body, is_error, is_page, text_of

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

ANSWER_BYTES_MAX = 4 << 20
"""A page of 1,000 keys of 100 bytes has a third of a megabyte; of keys as long as S3 has them, 1,024 bytes, 2 MB."""
_OK = {200, 204, 206}
_IN_A_200 = 500
_PLAIN = {"", "identity", "aws-chunked"}
"""Content codings of a body that can be read without decoding."""
_DECLARATION = b"<!DOCTYPE"
"""The start of entity declarations, which expand a kilobyte to hundreds of megabytes. S3 sends none, and escapes it
in keys."""


async def exchange(
    session: aiohttp.ClientSession,
    request: AWSPreparedRequest,
    proxy: str | None,
    proxy_headers: dict[str, str] | None,
) -> AioAWSResponse:
    """Send a control call and return its answer, whole.

    Raises:
        AnswerError: it is an error, a redirect, or a page.
        UnusableError: it is longer than an answer can be, or compressed.
        aiohttp.ClientError: there is none.
    """
    response = await session.request(
        request.method,
        URL(request.url, encoded=True),
        headers=_sent(request),
        data=request.body,
        proxy=proxy,
        proxy_headers=proxy_headers,
        allow_redirects=False,
    )
    headers = {
        name.decode("utf-8", "replace").lower(): value.decode("utf-8", "replace")
        for name, value in response.raw_headers
    }
    if request.stream_output and response.status in _OK:
        # A caller that asked for a stream reads it; polyb2's own bodies do not come this way.
        return AioAWSResponse(str(response.url), response.status, headers, response)  # type: ignore[arg-type]
    try:
        body = await _checked(response)
    finally:
        # An answer that was not read to its end is not drained.
        if not response.content.is_eof():
            response.close()
        response.release()
    return _Whole(str(response.url), response.status, headers, response, body)


class _Whole(AioAWSResponse):
    """An answer in the form that botocore wants, with its body read."""

    def __init__(
        self, url: str, status: int, headers: dict[str, str], response: aiohttp.ClientResponse, body: bytes
    ) -> None:
        super().__init__(url, status, headers, response)  # type: ignore[arg-type]  # any mapping does
        self._content = body


def _sent(request: AWSPreparedRequest) -> CIMultiDict[str]:
    given: list[tuple[str, str | bytes]] = list(request.headers.items())
    headers = CIMultiDict((name, value.decode() if isinstance(value, bytes) else value) for name, value in given)
    headers["Accept-Encoding"] = "identity"
    return headers


async def _checked(response: aiohttp.ClientResponse) -> bytes:
    if response.status not in _OK:
        raise AnswerError(response.status, response.headers, await error_body(response))
    body = await _bounded(response)
    if body and (coding := response.headers.get("Content-Encoding", "").strip().lower()) not in _PLAIN:
        raise UnusableError(
            f"a body that is compressed ({one_line(coding)[:30]}), as from a proxy that changes answers"
        )
    text = text_of(body)
    if is_page(text, response.headers) or _DECLARATION in body:
        raise AnswerError(response.status, response.headers, body)
    if is_error(text):
        # S3 keeps a slow Complete alive with a 200, whose body may then be the error.
        raise AnswerError(_IN_A_200, response.headers, body)
    return body


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    if response.method == "HEAD":
        return b""
    body = bytearray()
    if (response.content_length or 0) <= ANSWER_BYTES_MAX:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                break
        else:
            return bytes(body)
    raise UnusableError(f"more than the {ANSWER_BYTES_MAX >> 20} MiB that such an answer can have")
