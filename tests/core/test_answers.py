"""What an answer means: every row of the target's error table, and the three meanings of 403 at the source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.answers import classify
from polyb2.core.errors import HANDLING, Kind, RemoteError, Scope, Side

CAP = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap."
OPERATIONS = ["list", "get", "head", "put", "upload_part", "create", "complete", "abort", "list_parts"]
TARGET: list[tuple[str, int, str, str, Kind]] = [
    ("upload_part", 503, "ServiceUnavailable", "no tomes available", Kind.SERVER_ERROR),
    ("upload_part", 500, "InternalError", "An internal error occurred. Please retry your upload.", Kind.SERVER_ERROR),
    ("upload_part", 503, "SlowDown", "", Kind.THROTTLED),
    ("list", 429, "", "", Kind.THROTTLED),
    ("list", 429, "TooManyRequests", "", Kind.THROTTLED),
    ("upload_part", 400, "InvalidRequest", "The request body was too small", Kind.CONNECTION_LOST),
    ("upload_part", 400, "RequestTimeout", "", Kind.CONNECTION_LOST),
    ("put", 408, "", "", Kind.CONNECTION_LOST),
    ("put", 400, "IncompleteBody", "", Kind.CONNECTION_LOST),
    ("put", 403, "AccessDenied", CAP, Kind.CAP_EXCEEDED),
    ("get", 403, "AccessDenied", "Transaction cap exceeded.", Kind.CAP_EXCEEDED),
    ("put", 403, "AccessDenied", "not entitled", Kind.NOT_PERMITTED),
    ("list", 403, "UnauthorizedAccess", "", Kind.NOT_PERMITTED),
    ("put", 403, "InvalidAccessKeyId", "Malformed Access Key Id", Kind.KEYS_REFUSED),
    ("head", 403, "", "", Kind.FORBIDDEN),
    ("head", 403, "AccessDenied", "Cannot access bucket", Kind.FORBIDDEN),
    ("put", 403, "SignatureDoesNotMatch", "", Kind.KEYS_REFUSED),
    ("put", 403, "RequestTimeTooSkewed", "", Kind.CLOCK_SKEW),
    ("complete", 404, "NoSuchUpload", "", Kind.NO_SUCH_UPLOAD),
    ("head", 404, "", "", Kind.NOT_FOUND),
    ("get", 404, "NoSuchKey", "", Kind.NOT_FOUND),
    ("put", 404, "NoSuchBucket", "", Kind.MISCONFIGURED),
    ("put", 301, "PermanentRedirect", "", Kind.MISCONFIGURED),
    ("put", 307, "", "", Kind.MISCONFIGURED),
    ("put", 400, "AuthorizationHeaderMalformed", "the region is wrong", Kind.MISCONFIGURED),
    ("put", 400, "BadDigest", "", Kind.BAD_DIGEST),
    ("complete", 400, "InvalidPart", "", Kind.MISMATCH),
    ("put", 401, "", "", Kind.KEYS_REFUSED),
    ("complete", 409, "", "", Kind.SERVER_ERROR),
    ("complete", 400, "OperationAborted", "", Kind.SERVER_ERROR),
    ("put", 400, "InvalidRequest", "something else", Kind.REFUSED),
    ("put", 418, "", "", Kind.REFUSED),
    ("head", 501, "", "", Kind.REFUSED),
    ("put", 501, "NotImplemented", "", Kind.REFUSED),
    ("put", 502, "", "<html>Bad Gateway</html>", Kind.SERVER_ERROR),
]
SOURCE: list[tuple[str, int, str, Kind]] = [
    ("get", 403, "AccessDenied", Kind.FORBIDDEN),
    ("get", 403, "", Kind.FORBIDDEN),
    ("head", 403, "", Kind.FORBIDDEN),
    ("list", 403, "AccessDenied", Kind.KEYS_REFUSED),
    ("list", 403, "", Kind.KEYS_REFUSED),
    ("get", 403, "InvalidAccessKeyId", Kind.KEYS_REFUSED),
    ("get", 403, "SignatureDoesNotMatch", Kind.KEYS_REFUSED),
    ("get", 403, "RequestTimeTooSkewed", Kind.CLOCK_SKEW),
    ("get", 404, "NoSuchKey", Kind.NOT_FOUND),
    ("get", 412, "PreconditionFailed", Kind.CHANGED),
    ("get", 412, "", Kind.CHANGED),
    ("get", 416, "InvalidRange", Kind.CHANGED),
    ("get", 500, "", Kind.SERVER_ERROR),
    ("get", 429, "", Kind.THROTTLED),
]


@pytest.mark.parametrize(("operation", "status", "code", "message", "kind"), TARGET)
def test_an_answer_of_the_target(operation: str, status: int, code: str, message: str, kind: Kind) -> None:
    assert classify(Side.TARGET, operation, status, code=code, message=message).kind is kind


@pytest.mark.parametrize(("operation", "status", "code", "kind"), SOURCE)
def test_an_answer_of_the_source(operation: str, status: int, code: str, kind: Kind) -> None:
    assert classify(Side.SOURCE, operation, status, code=code).kind is kind


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
@pytest.mark.parametrize("side", Side)
def test_refused_keys_are_never_about_entitlement(side: Side, operation: str, code: str) -> None:
    error = classify(side, operation, 403, code=code)
    assert error.handling.scope is Scope.ACCOUNT


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cap_pauses_the_run_whatever_was_asked(operation: str) -> None:
    error = classify(Side.TARGET, operation, 403, code="AccessDenied", message=CAP)
    assert (error.kind, error.handling.scope) == (Kind.CAP_EXCEEDED, Scope.OUTAGE)
    assert "Caps & Alerts" in str(error)


def test_ancestor_a_file_not_yet_published_is_not_refused_for_good() -> None:
    assert classify(Side.SOURCE, "get", 403).handling.cured_by_retry


def test_ancestor_a_listing_error_is_an_error() -> None:
    with pytest.raises(RemoteError, match="list was answered 403: Forbidden"):
        raise classify(Side.SOURCE, "list", 403, message="Forbidden")


@given(
    st.sampled_from(Side),
    st.sampled_from(OPERATIONS),
    st.integers(300, 599),
    st.text("abAB&<>. \n", max_size=40),
    st.text("abAB&<>. \n", max_size=400),
)
def test_every_answer_is_classed_in_words_of_bounded_length(
    side: Side, operation: str, status: int, code: str, message: str
) -> None:
    error = classify(side, operation, status, code=code, message=message)
    assert error.kind in HANDLING
    assert error.message.startswith(f"{operation} was answered {status}")
    assert len(error.message) < 350
    assert error.code == (code or str(status))


@given(st.integers(400, 499).filter(lambda status: status not in {401, 403, 404, 408, 409, 412, 416, 429}))
def test_no_retry_is_spent_on_a_refusal_that_nobody_knows(status: int) -> None:
    assert classify(Side.TARGET, "put", status, code="Unheard").kind is Kind.REFUSED


def test_a_page_of_words_is_cut_short() -> None:
    assert len(classify(Side.TARGET, "put", 500, message="x" * 100_000).message) < 350


def test_retry_after_is_passed_on() -> None:
    assert classify(Side.TARGET, "put", 503, code="SlowDown", retry_after_s=7.0).retry_after_s == 7.0
