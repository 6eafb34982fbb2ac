"""Foreign errors become ours, once, here: above this package there is no botocore and no aiohttp exception.

Exception texts can hold a URL, and a presigned URL holds a signature: every message is scrubbed.
"""

from __future__ import annotations

import asyncio
import html
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from polyb2 import descriptors
from polyb2.core.answers import classify
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.retry import parse_retry_after
from polyb2.core.scrub import scrub

_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,2000})</Message>")
_ERROR_BODY_MAX = 64 * 1024
_AUTH_KINDS = {Kind.KEYS_REFUSED, Kind.CLOCK_SKEW}
_SKEW_TOLD_S = 60
_LOCAL_DOUBTS = {Kind.UNREACHABLE, Kind.CONNECTION_LOST}
"""What a failure of this machine's own looks like."""
_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.SSLError,
    ssl.SSLCertVerificationError,
)
FOREIGN = (
    aiohttp.ClientError,
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
)


def _one_line(text: str) -> str:
    """The text without secrets, on one line."""
    return " ".join(scrub(text).split())[:500]


def translate(side: Side, operation: str, error: Exception) -> RemoteError:
    """The RemoteError that a foreign exception stands for."""
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, boto.ClientError):
        return _from_client_error(side, operation, error)
    kind = _kind_of(error)
    if kind in _LOCAL_DOUBTS and (words := descriptors.problem(error)):
        return RemoteError(side, Kind.NO_OPEN_FILES, f"{operation}: {words}")
    return RemoteError(side, kind, f"{operation}: {_words(error)}")


def _from_client_error(side: Side, operation: str, error: boto.ClientError) -> RemoteError:
    facts = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    code = str(facts.get("Code") or "")
    return from_answer(
        side,
        operation,
        int(meta.get("HTTPStatusCode", 0)),
        {str(name): str(value) for name, value in meta.get("HTTPHeaders", {}).items()},
        code="" if code.isdecimal() else code,
        message=str(facts.get("Message") or ""),
    )


def from_answer(
    side: Side, operation: str, status: int, headers: Mapping[str, str], *, code: str = "", message: str = ""
) -> RemoteError:
    """The error that an HTTP answer stands for, with its Retry-After and, for signatures, the clocks compared."""
    now = datetime.now(UTC)
    retry_after_s = parse_retry_after(headers.get("retry-after") or headers.get("Retry-After"), now)
    error = classify(side, operation, status, code=code, message=_one_line(message), retry_after_s=retry_after_s)
    if error.kind in _AUTH_KINDS and (skew_s := _skew_s(headers, now)) > _SKEW_TOLD_S:
        error.message += f" (this machine's clock and the service's differ by {skew_s:.0f} s)"
    return error


def from_body(side: Side, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> RemoteError:
    """As :func:`from_answer`, with S3's code and message taken from an XML body, if it is one."""
    text = body[:_ERROR_BODY_MAX].decode("utf-8", "replace")
    code, message = _CODE.search(text), _MESSAGE.search(text)
    words = html.unescape(message[1]) if message else ""
    return from_answer(side, operation, status, headers, code=code[1] if code else "", message=words)


def _skew_s(headers: Mapping[str, str], now: datetime) -> float:
    try:
        theirs = parsedate_to_datetime(headers.get("date") or headers.get("Date") or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())


def _kind_of(error: Exception) -> Kind:
    if isinstance(error, _NEVER_CONNECTED):
        return Kind.UNREACHABLE
    if isinstance(error, (TimeoutError, boto.ReadTimeoutError)):
        return Kind.STALLED
    if isinstance(error, ResponseParserError):
        return Kind.SERVER_ERROR
    if isinstance(error, (aiohttp.ClientPayloadError, asyncio.IncompleteReadError)):
        return Kind.TRUNCATED
    if isinstance(error, (boto.ParamValidationError, boto.DataNotFoundError, boto.UnknownServiceError)):
        return Kind.REFUSED
    return Kind.CONNECTION_LOST


def _words(error: Exception) -> str:
    text = _one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
