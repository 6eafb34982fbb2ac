"""Foreign errors become ours here and only here: above this package there are no botocore and no aiohttp exceptions.

Both HTTP stacks come through: an answer of either becomes an ``Answer`` for ``core/classification.py``, which finds
its author. Exception texts can hold a URL, and a presigned URL holds a signature: every message is scrubbed.
"""

from __future__ import annotations

import asyncio
import codecs
import html
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from polyb2 import descriptors
from polyb2.core.classification import Answer, Form, classify
from polyb2.core.errors import Kind, Origin, RemoteError, Side
from polyb2.core.retry import parse_retry_after
from polyb2.core.scrub import scrub

ERROR_BODY_MAX = 64 * 1024
_PREFIX = re.compile(r"(</?)[A-Za-z_][A-Za-z0-9_.-]{0,40}:(?=[A-Z])")
"""The prefix of an element's name; its namespace makes no difference."""
_ERROR = re.compile(r"\s*(?:<\?[^<>]{0,200}\?>\s*)?<Error[\s/>]")
"""The beginning of an error. S3 keeps a connection alive by white space, also before the root."""
_CODE = re.compile(r"<Code>\s{0,100}([^<\s]{1,100})\s{0,100}</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,2000})")
_REGION = re.compile(r"<Region>([A-Za-z0-9-]{1,40})</Region>")
_MOVED_TO = re.compile(r"<Endpoint>([^<]{1,200})</Endpoint>")
_TITLE = re.compile(r"<title>([^<]{1,200})</title>", re.IGNORECASE)
_TOO_LONG = re.compile(r"Got more than (\d{1,9}) bytes")
_RECEIVED = re.compile(r"received (\d{1,20}) of (\d{1,20}) bytes")
_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,100}")
_PAGES = ("<!doctype html", "<html")
_MARKS = ("x-amz-request-id", "x-amz-id-2")
_AUTH_KINDS = {Kind.KEYS_REFUSED, Kind.CLOCK_SKEW}
_SKEW_TOLD_S = 60
_LOCAL_DOUBTS = {Kind.UNREACHABLE, Kind.CONNECTION_LOST}
"""The kinds that a failure of this machine resembles."""
_OF_THE_PROXY = "check the proxy that HTTPS_PROXY names, and what it allows"
_PROXY_LOGIN = 407
_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    ssl.SSLCertVerificationError,
)
_UNREADABLE = (ResponseParserError, boto.ClientError)
"""A 200 without XML in it: botocore turns that into an error of the service (``control.py`` leaves it no other)."""
_UNUSABLE = (boto.ParamValidationError, boto.DataNotFoundError, boto.UnknownServiceError)


class AnswerError(Exception):
    """An answer to a control call that is not what was asked for, not classified yet."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class UnusableError(Exception):
    """An answer to a control call that no S3 service sends, too long or compressed; the text says which."""


FOREIGN = (
    AnswerError,
    UnusableError,
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
    """The RemoteError for a foreign exception."""
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, AnswerError):
        return from_body(side, operation, error.status, error.headers, error.body)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _from_proxy(side, operation, error)
    kind = _kind_of(error)
    advice = _OF_THE_PROXY if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    if kind in _LOCAL_DOUBTS and (words := descriptors.problem(error)):
        return RemoteError(side, Kind.NO_OPEN_FILES, f"{operation}: {words}")
    return RemoteError(side, kind, f"{operation}: {_words(error)}", origin=_origin_of(error), advice=advice)


def _from_proxy(side: Side, operation: str, error: aiohttp.ClientHttpProxyError) -> RemoteError:
    """The error of a proxy that did not connect: its answer is never the service's."""
    if error.status == _PROXY_LOGIN:
        return classify(Answer(side, operation, _PROXY_LOGIN))
    words = f"{operation}: the proxy answered {error.status} {_one_line(error.message)}".rstrip()
    return RemoteError(side, Kind.UNREACHABLE, words, advice=_OF_THE_PROXY)


def from_body(side: Side, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> RemoteError:
    """The error for an HTTP answer, with its Retry-After and, for signatures, the clocks compared."""
    now, named = datetime.now(UTC), _named(headers)
    text = text_of(body)
    form, code = _form_of(text, named)
    error = classify(
        Answer(
            side,
            operation,
            status,
            form=form,
            code=code,
            message=_message_of(form, text),
            marked=_is_marked(named),
            moved_to=_moved_to(text, named.get("location", "")),
            region=_first(_REGION, text) or named.get("x-amz-bucket-region", "")[:40],
            retry_after_s=parse_retry_after(named.get("retry-after"), now),
        )
    )
    if error.kind in _AUTH_KINDS and (skew_s := _skew_s(named, now)) > _SKEW_TOLD_S:
        error.message += f" (this machine's clock and the service's differ by {skew_s:.0f} s)"
    return error


async def from_response(side: Side, operation: str, response: aiohttp.ClientResponse) -> RemoteError:
    """The error for an answer that is still being received; see :func:`from_body`."""
    return from_body(side, operation, response.status, response.headers, await error_body(response))


async def error_body(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error: cut if it is longer than an error, and what arrived if it breaks off."""
    body = b""
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= ERROR_BODY_MAX:
                break
    except (aiohttp.ClientPayloadError, ConnectionError):
        pass
    return body[:ERROR_BODY_MAX]


def text_of(body: bytes) -> str:
    """The beginning of an answer as text, in any encoding or form that XML allows: UTF-16, prefixes, CDATA."""
    start = body[:ERROR_BODY_MAX]
    is_wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = start.decode("utf-16" if is_wide else "utf-8-sig", "replace")
    return _PREFIX.sub(r"\1", text).replace("<![CDATA[", "").replace("]]>", "")


def is_error(text: str) -> bool:
    """Tell if an answer is an error, whatever its status says."""
    return _ERROR.match(text) is not None


def is_page(text: str, headers: Mapping[str, str]) -> bool:
    """Tell if an answer is HTML: by its beginning, or by its type (OpenStack Swift sends that type without a body)."""
    if text[:1000].lstrip().lower().startswith(_PAGES):
        return True
    # Header names are in lower case, or compared in any case; for most answers this is all that is examined.
    return headers.get("content-type", "").lower().startswith("text/html") and not _is_marked(_named(headers))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _is_marked(named: Mapping[str, str]) -> bool:
    return any(name in named for name in _MARKS)


def _form_of(text: str, named: Mapping[str, str]) -> tuple[Form, str]:
    code = _first(_CODE, text) if "<Error" in text else ""
    if code:
        return Form.ERROR, code
    if is_page(text, named):
        return Form.PAGE, ""
    return (Form.OTHER if text.strip() else Form.EMPTY), ""


def _message_of(form: Form, text: str) -> str:
    if form in {Form.ERROR, Form.PAGE}:
        return _one_line(html.unescape(_first(_MESSAGE if form is Form.ERROR else _TITLE, text)))
    return ""


def _moved_to(text: str, location: str) -> str:
    """The host of a redirect. Nothing else of it is shown: the rest may hold a signature."""
    try:
        host = urlsplit(location).netloc.rpartition("@")[2] or _first(_MOVED_TO, text)
    except ValueError:
        return ""
    return host if _HOST.fullmatch(host) else ""


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _skew_s(headers: Mapping[str, str], now: datetime) -> float:
    try:
        theirs = parsedate_to_datetime(headers.get("date") or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())


def _kind_of(error: Exception) -> Kind:
    if isinstance(error, _NEVER_CONNECTED):
        return Kind.UNREACHABLE
    if isinstance(error, TimeoutError):
        return Kind.STALLED
    if _origin_of(error) is Origin.INTERMEDIARY:
        return Kind.BAD_ANSWER
    if isinstance(error, (aiohttp.ClientPayloadError, asyncio.IncompleteReadError)):
        return Kind.TRUNCATED
    return Kind.UNSUPPORTED if isinstance(error, _UNUSABLE) else Kind.CONNECTION_LOST


def _origin_of(error: Exception) -> Origin:
    """The author of an error: an intermediary wrote what is not HTTP, or not what S3 ever sends."""
    is_foreign = isinstance(error, (aiohttp.ClientResponseError, *_UNREADABLE, UnusableError))
    return Origin.INTERMEDIARY if is_foreign else Origin.SERVICE


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        # aiohttp's message, without the URL.
        if too_long := _TOO_LONG.match(error.message):
            return f"was answered with a header line of more than {too_long[1]} bytes"
        return f"the answer is not readable HTTP: {_one_line(error.message)[:200]}"
    if isinstance(error, UnusableError):
        return f"was answered with {error}"
    if isinstance(error, _UNREADABLE):
        why = f": {_one_line(str(error))[:200]}" if isinstance(error, ResponseParserError) else ""
        return f"was answered with XML that cannot be read{why}"
    text = _one_line(str(error))
    if words := _tls_words(error) or _cut_words(error, text):
        return words
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _cut_words(error: Exception, text: str) -> str:
    """The words for a body that broke off; empty for any other error."""
    received = _RECEIVED.search(text) if isinstance(error, aiohttp.ClientPayloadError) else None
    return f"the body ended early, after {received[1]} of {received[2]} bytes" if received else ""


def _tls_words(error: Exception) -> str:
    """The words for a TLS handshake that failed for another reason than a certificate; empty for any other error."""
    is_tls = isinstance(error, ssl.SSLError | aiohttp.ClientConnectorSSLError)
    if is_tls and "WRONG_VERSION_NUMBER" in str(error).upper():
        return "the port does not speak TLS: is it an http:// endpoint?"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno is None and error.strerror is None:
        # asyncio gives no reason if the other end hangs up within the handshake.
        return "the other end closed the connection while TLS was set up: is it an http:// endpoint, or a proxy's?"
    return ""
