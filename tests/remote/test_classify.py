"""Foreign errors in our words: the exceptions of both stacks, and raw answers."""

from __future__ import annotations

import ssl
from unittest.mock import Mock

import aiohttp
import pytest
from botocore.exceptions import ParamValidationError
from botocore.parsers import ResponseParserError
from yarl import URL

from polyb2.core.errors import Kind, Scope, Side
from polyb2.remote.classify import AnswerError, UnusableError, from_body, is_error, text_of, translate

_KEY = Mock(host="proxy", port=3128, ssl=True)
_INFO = Mock(real_url=URL("https://h/b/k?X-Amz-Signature=abcdef"))


def answered(code: int, message: str = "") -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(_INFO, (), status=code, message=message)


@pytest.mark.parametrize(
    ("error", "kind", "scope", "words"),
    [
        (answered(400, "Got more than 8190 bytes when reading: b'x'."), Kind.BAD_ANSWER, Scope.OUTAGE,
         "was answered with a header line of more than 8190 bytes"),
        (answered(400, "Bad status line 'SSH-2.0'"), Kind.BAD_ANSWER, Scope.OUTAGE, "not readable HTTP"),
        (ResponseParserError("not well-formed (invalid token): line 1"), Kind.BAD_ANSWER, Scope.OUTAGE,
         "XML that cannot be read: not well-formed"),
        (UnusableError("more than the 4 MiB"), Kind.BAD_ANSWER, Scope.OUTAGE, "was answered with more than the 4 MiB"),
        (aiohttp.ClientHttpProxyError(_INFO, (), status=407, message="login"), Kind.MISCONFIGURED, Scope.OUTAGE,
         "the proxy wants a login"),
        (aiohttp.ClientHttpProxyError(_INFO, (), status=503, message="busy"), Kind.UNREACHABLE, Scope.OUTAGE,
         "the proxy answered 503 busy"),
        (aiohttp.ClientProxyConnectionError(_KEY, OSError(111, "refused")), Kind.UNREACHABLE, Scope.OUTAGE,
         "check the proxy that HTTPS_PROXY names"),
        (aiohttp.ClientConnectorError(Mock(), ConnectionResetError()), Kind.UNREACHABLE, Scope.OUTAGE,
         "closed the connection while TLS was set up"),
        (aiohttp.ClientConnectorError(Mock(), ConnectionRefusedError(111, "Connection refused")), Kind.UNREACHABLE,
         Scope.OUTAGE, "Connection refused"),
        (ParamValidationError(report="no"), Kind.UNSUPPORTED, Scope.FILE, "no"),
        (TimeoutError(), Kind.STALLED, Scope.FILE, "TimeoutError"),
        (aiohttp.ClientPayloadError("cut"), Kind.TRUNCATED, Scope.FILE, "cut"),
        (ConnectionResetError("reset"), Kind.CONNECTION_LOST, Scope.FILE, "reset"),
        (ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), Kind.CONNECTION_LOST, Scope.FILE,
         "the port does not speak TLS"),
    ],
)  # fmt: skip
def test_a_foreign_error_in_our_words(error: Exception, kind: Kind, scope: Scope, words: str) -> None:
    ours = translate(Side.TARGET, "list", error)
    assert (ours.kind, ours.handling.scope) == (kind, scope)
    assert words in str(ours)
    assert "abcdef" not in str(ours)


def test_an_empty_message_of_the_service_is_no_words() -> None:
    foreign = AnswerError(403, {}, b"<Error><Code>AccessDenied</Code><Message/></Error>")
    assert translate(Side.SOURCE, "list", foreign).found == "list was answered 403 (AccessDenied)"


@pytest.mark.parametrize(
    "body",
    [
        b"<Error><Code>AccessDenied</Code><Message>No cap left</Message></Error>",
        b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No cap left</Message></Error>",
        b"<a:Error xmlns:a='urn:x'><a:Code>AccessDenied</a:Code><a:Message>No cap left</a:Message></a:Error>",
        b"<?xml version='1.0'?>\n<Error>\n <Code>\n  AccessDenied\n </Code>\n <Message>\n  No cap left\n</Message></Error>",
        b"<Error><Code><![CDATA[AccessDenied]]></Code><Message><![CDATA[No cap left]]></Message></Error>",
        "<Error><Code>AccessDenied</Code><Message>No cap left</Message></Error>".encode("utf-16"),
        b"<Error><Code>AccessDenied</Code><Message>No cap left" + b" " * (1 << 20),
    ],
)
def test_an_error_is_read_however_its_xml_is_written(body: bytes) -> None:
    found = from_body(Side.TARGET, "put", 403, {}, body).found
    assert found == "put was answered 403: No cap left (AccessDenied)"
    assert is_error(text_of(body))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b"\n \n<?xml version='1.0'?>" + b"\n" * 2000 + b"<Error xmlns='urn:x'><Code>InternalError</Code></Error>",
            True,
        ),
        (b"<ListBucketResult><Key>&lt;Error&gt;</Key></ListBucketResult>", False),
        (b"<ErrorDocument></ErrorDocument>", False),
        (b"", False),
    ],
)
def test_an_error_within_a_200_is_known_by_its_root(body: bytes, expected: bool) -> None:
    assert is_error(text_of(body)) is expected


@pytest.mark.parametrize(
    ("headers", "body", "kind", "words"),
    [
        ({}, b"<Error><Code>NoSuchKey</Code></Error>", Kind.NOT_FOUND, "get was answered 404"),
        ({}, b"<Error><Code>NoSuch", Kind.BAD_ANSWER, "something that is not S3's"),
        ({}, b"<html><title>Sorry</title><Code>NoSuchKey</Code>", Kind.BAD_ANSWER, 'a web page ("Sorry")'),
        ({"Content-Type": "text/html; charset=utf-8"}, b"", Kind.BAD_ANSWER, "a web page"),
        ({"content-type": "text/html", "X-Amz-Request-Id": "tx1"}, b"", Kind.NOT_FOUND, "get was answered 404"),
        ({}, b'{"code": "not_found"}', Kind.BAD_ANSWER, "something that is not S3's"),
        ({}, b"", Kind.BAD_ANSWER, "without the XML that S3 answers with"),
    ],
)
def test_whose_a_404_is(headers: dict[str, str], body: bytes, kind: Kind, words: str) -> None:
    error = from_body(Side.SOURCE, "get", 404, headers, body)
    assert error.kind is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://new.example/b/k?X-Amz-Signature=abcdef", "moved to new.example"),
        ("https://user:pass@new.example:8443/", "moved to new.example:8443"),
        ("//new.example/x", "moved to new.example"),
        ("/login", "names no host"),
        ("https://a\x1b[31mb/", "names no host"),
        ("http://[::1", "names no host"),
        ("", "names no host"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_of_a_redirect_the_host_is_told_and_nothing_else(status: int, location: str, host: str) -> None:
    error = from_body(Side.TARGET, "put", status, {"Location": location}, b"")
    assert host in error.message
    assert "abcdef" not in str(error)
    assert "pass" not in str(error)
    assert error.kind is Kind.MISCONFIGURED


def test_the_region_that_the_service_names_is_passed_on() -> None:
    body = (
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message><Region>eu-central-003</Region></Error>"
    )
    error = from_body(Side.TARGET, "put", 400, {}, body)
    assert (error.kind, error.handling.scope) == (Kind.MISCONFIGURED, Scope.ACCOUNT)
    assert "set B2_REGION to eu-central-003" in str(error)
