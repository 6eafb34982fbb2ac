"""The meaning of answers: the rows of the tables of errors, and the matrix of operations, statuses and bodies by rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.classification import Answer, Form, classify, refused_by_proxy
from polyb2.core.errors import HANDLING, Kind, Origin, RemoteError, Scope, Side
from polyb2.core.status import Event
from polyb2.core.verdict import judge

CAP = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap."
HEADS = ["head", "head_bucket"]
OPERATIONS = {
    Side.SOURCE: ["list", "get", "head"],
    Side.TARGET: [
        "list", "get", *HEADS, "put", "upload_part", "create", "complete", "abort", "delete", "list_parts", "list_uploads",
        "list_versions", "lifecycle", "lock",
    ],
}  # fmt: skip
STATUSES = [200, 202, 206, *range(300, 309), *range(400, 432), 451, 499, *range(500, 512), 520, 522, 524, 599]
REDIRECTS = {301, 302, 303, 307, 308}
CODES = [
    "", "AccessDenied", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "InternalError", "ServiceUnavailable", "SlowDown",
    "SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestTimeTooSkewed", "InvalidRequest", "PreconditionFailed",
    "PermanentRedirect", "EntityTooLarge", "Unheard",
]  # fmt: skip
BODIES = [Form.PAGE, Form.EMPTY, Form.OTHER]
INTERMEDIARY_KINDS = {Kind.BAD_ANSWER, Kind.SERVER_ERROR, Kind.THROTTLED, Kind.CONNECTION_LOST, Kind.MISCONFIGURED}
SETTINGS = {Side.SOURCE: "POLYGON_S3_", Side.TARGET: "B2_"}


def own(
    side: Side, operation: str, status: int, code: str = "", message: str = "", retry_after_s: float | None = None
) -> RemoteError:
    """The service's own answer: with its XML, or, to HEAD, with its request id alone."""
    form = Form.ERROR if code else Form.EMPTY
    return classify(Answer(side, operation, status, form, code, message, marked=True, retry_after_s=retry_after_s))


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
    ("put", 403, "QuotaExceeded", "", Kind.CAP_EXCEEDED),
    ("put", 413, "EntityTooLarge", "Upload exceeds quota.", Kind.CAP_EXCEEDED),
    ("put", 507, "XMinioStorageFull", "", Kind.CAP_EXCEEDED),
    ("put", 403, "AccessDenied", "not entitled", Kind.NOT_PERMITTED),
    ("get", 403, "AccessDenied", "not entitled", Kind.NOT_PERMITTED),
    ("list", 403, "UnauthorizedAccess", "", Kind.NOT_PERMITTED),
    ("put", 403, "InvalidAccessKeyId", "Malformed Access Key Id", Kind.KEYS_REFUSED),
    ("head", 403, "", "", Kind.FORBIDDEN),
    ("head", 403, "AccessDenied", "Cannot access bucket", Kind.FORBIDDEN),
    ("head_bucket", 403, "", "", Kind.NOT_PERMITTED),
    ("put", 403, "SignatureDoesNotMatch", "", Kind.KEYS_REFUSED),
    ("put", 403, "RequestTimeTooSkewed", "", Kind.CLOCK_SKEW),
    ("get", 403, "AccessDenied", "Request has expired", Kind.CLOCK_SKEW),
    ("delete", 403, "AccessDenied", "Access Denied because object protected by object lock.", Kind.UNSUPPORTED),
    ("delete", 403, "AccessDenied", "Access Denied", Kind.NOT_PERMITTED),
    ("complete", 404, "NoSuchUpload", "", Kind.NO_SUCH_UPLOAD),
    ("head", 404, "", "", Kind.NOT_FOUND),
    ("get", 404, "NoSuchKey", "", Kind.NOT_FOUND),
    ("put", 404, "NoSuchBucket", "", Kind.MISCONFIGURED),
    ("put", 301, "PermanentRedirect", "", Kind.MISCONFIGURED),
    ("put", 307, "TemporaryRedirect", "", Kind.MISCONFIGURED),
    ("put", 400, "AuthorizationHeaderMalformed", "the region is wrong", Kind.MISCONFIGURED),
    ("upload_part", 400, "AuthorizationQueryParametersError", "the region 'a' is wrong", Kind.MISCONFIGURED),
    ("put", 400, "BadDigest", "", Kind.BAD_DIGEST),
    ("complete", 400, "InvalidPart", "", Kind.MISMATCH),
    ("put", 401, "AccessDenied", "", Kind.KEYS_REFUSED),
    ("complete", 409, "Conflict", "", Kind.SERVER_ERROR),
    ("complete", 400, "OperationAborted", "", Kind.SERVER_ERROR),
    ("put", 400, "InvalidRequest", "something else", Kind.REFUSED),
    ("upload_part", 423, "Locked", "", Kind.REFUSED),
    ("upload_part", 425, "TooEarly", "", Kind.SERVER_ERROR),
    ("put", 413, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", Kind.UNSUPPORTED),
    ("get", 416, "InvalidRange", "", Kind.INCONSISTENT),
    ("head", 501, "", "", Kind.UNSUPPORTED),
    ("head", 400, "", "", Kind.REFUSED),
    ("put", 412, "PreconditionFailed", "", Kind.REFUSED),
    ("put", 501, "NotImplemented", "", Kind.UNSUPPORTED),
    ("get", 405, "MethodNotAllowed", "", Kind.UNSUPPORTED),
]
SOURCE: list[tuple[str, int, str, Kind]] = [
    ("get", 403, "AccessDenied", Kind.FORBIDDEN),
    ("head", 403, "", Kind.FORBIDDEN),
    ("list", 403, "AccessDenied", Kind.KEYS_REFUSED),
    ("get", 403, "InvalidAccessKeyId", Kind.KEYS_REFUSED),
    ("get", 403, "SignatureDoesNotMatch", Kind.KEYS_REFUSED),
    ("get", 403, "UserSuspended", Kind.KEYS_REFUSED),
    ("get", 403, "AccountProblem", Kind.KEYS_REFUSED),
    ("get", 403, "RequestTimeTooSkewed", Kind.CLOCK_SKEW),
    ("get", 404, "NoSuchKey", Kind.NOT_FOUND),
    ("get", 412, "PreconditionFailed", Kind.CHANGED),
    ("get", 412, "", Kind.CHANGED),
    ("get", 416, "InvalidRange", Kind.INCONSISTENT),
    ("get", 500, "InternalError", Kind.SERVER_ERROR),
    ("get", 429, "", Kind.THROTTLED),
    ("get", 507, "XMinioStorageFull", Kind.SERVER_ERROR),
]


@pytest.mark.parametrize(("operation", "status", "code", "message", "kind"), TARGET)
def test_an_answer_of_the_target(operation: str, status: int, code: str, message: str, kind: Kind) -> None:
    assert own(Side.TARGET, operation, status, code, message).kind is kind


@pytest.mark.parametrize(("operation", "status", "code", "kind"), SOURCE)
def test_an_answer_of_the_source(operation: str, status: int, code: str, kind: Kind) -> None:
    assert own(Side.SOURCE, operation, status, code).kind is kind


# -- the matrix: operations x statuses x bodies, by rules -------------------------------------------------------------------


def matrix() -> list[Answer]:
    """Every operation of either side with every status that a store, a proxy or a portal sends, and every body."""
    made = []
    for side, operations in OPERATIONS.items():
        for operation, status, marked in itertools.product(operations, STATUSES, (False, True)):
            moved_to = "login.example" if status in REDIRECTS else ""
            made += [
                Answer(
                    side,
                    operation,
                    status,
                    form,
                    marked=marked,
                    moved_to=moved_to,
                    message="Hotel" * (form is Form.PAGE),
                )
                for form in BODIES
            ]
            made += [
                Answer(side, operation, status, Form.ERROR, code, "Words.", marked, moved_to) for code in CODES[1:]
            ]
    return made


MATRIX = matrix()


def is_written_by_the_service(answer: Answer) -> bool:
    """The rule, stated once more in other words than the code's."""
    if answer.form is Form.ERROR:
        return True
    if answer.form is not Form.EMPTY or answer.status in REDIRECTS:
        return False
    return answer.marked or answer.status in {412, 416} or (answer.operation in HEADS and answer.status >= 400)


def judged(error: RemoteError, *, outage: bool) -> tuple[Event, bool]:
    verdict = judge(
        error, retry_count=2, max_retries=2, made_progress=False, forbidden_before=True, outage=outage, doubted=False
    )
    return verdict.event, verdict.charged


def test_what_the_service_did_not_write_is_trouble_of_the_side_whatever_its_status() -> None:
    foreign = [answer for answer in MATRIX if not is_written_by_the_service(answer)]
    assert len(foreign) > 2000
    for answer in foreign:
        error = classify(answer)
        if answer.operation in HEADS and answer.form is Form.EMPTY and answer.status not in REDIRECTS:
            continue  # a HEAD has no body: which of its statuses are believed is the next test's
        assert error.by_intermediary, answer
        assert error.kind in INTERMEDIARY_KINDS, answer
        assert error.handling.scope is Scope.OUTAGE, answer
        event, charged = judged(error, outage=True)
        assert event in {Event.FAIL_DOWNLOAD, Event.FAIL_UPLOAD}, answer
        assert not charged, answer
        assert not judged(error, outage=False)[1], answer


@pytest.mark.parametrize("status", [401, 402, 406, 407, 410, 411, 413, 418, 421, 423, 451, 499])
@pytest.mark.parametrize("side", Side)
def test_a_head_is_believed_without_a_request_id_only_where_s3_answers_so(side: Side, status: int) -> None:
    assert classify(Answer(side, "head", status)).by_intermediary
    assert not classify(Answer(side, "head", status, marked=True)).by_intermediary
    assert classify(Answer(side, "head", 404)).origin is Origin.UNMARKED
    assert classify(Answer(side, "head", 404, Form.PAGE, marked=True)).by_intermediary


def test_the_services_own_words_never_blame_somebody_in_between() -> None:
    for answer in MATRIX:
        if answer.form is Form.ERROR:
            error = classify(answer)
            assert error.origin is Origin.SERVICE, answer
            assert error.kind is not Kind.BAD_ANSWER, answer
            assert error.code == answer.code, answer


def test_a_code_means_the_same_whatever_was_asked_except_for_a_403() -> None:
    for code in CODES[1:]:
        kinds = {
            classify(Answer(Side.TARGET, operation, 400, Form.ERROR, code)).kind
            for operation in OPERATIONS[Side.TARGET]
        }
        assert len(kinds) == 1, (code, kinds)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("code", ["UserSuspended", "AccountProblem"])
def test_an_account_that_is_refused_stops_the_run_and_is_told_as_that(side: Side, code: str) -> None:
    error = classify(Answer(side, "get", 403, form=Form.ERROR, code=code))
    assert error.handling.scope is Scope.ACCOUNT
    assert "refuses the account" in str(error)
    assert "plan" not in str(error)


def test_only_the_sources_own_403_of_an_object_is_about_the_plan() -> None:
    for answer in MATRIX:
        error = classify(answer)
        if error.kind is Kind.FORBIDDEN:
            assert answer.status == 403
            assert answer.operation in {"get", "head"}
            assert is_written_by_the_service(answer), answer
        assert "plan" not in str(error) or (error.kind, error.side) == (Kind.FORBIDDEN, Side.SOURCE), str(error)


def test_every_message_says_what_came_and_what_to_do_in_the_words_of_its_side() -> None:
    for answer in MATRIX:
        error = classify(answer)
        assert error.message.startswith(f"{answer.operation} was answered {answer.status}"), error.message
        assert len(error.advice.split()) >= 4, error.advice
        other = SETTINGS[Side.TARGET if answer.side is Side.SOURCE else Side.SOURCE]
        ours = error.advice.replace("POLYB2_B2_RPS", "").replace("POLYB2_", "")
        assert other not in ours, str(error)
        if answer.form is Form.PAGE and answer.status not in REDIRECTS:
            assert 'a web page ("Hotel")' in error.message
        if answer.status in REDIRECTS:
            assert "moved to login.example" in error.message
            assert "does not follow redirects" in error.advice
            assert error.kind is Kind.MISCONFIGURED
        assert ("a web page" in error.message) <= error.by_intermediary
        assert ("not an answer of the service" in error.advice) <= error.by_intermediary


def test_what_a_proxy_says_of_a_moment_is_asked_again_as_often_as_if_the_service_had_said_it() -> None:
    for status, form in itertools.product((408, 425, 429, 500, 502, 503, 504, 522), BODIES):
        assert classify(Answer(Side.TARGET, "put", status, form)).handling.tries is None


# -- the words of some cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words", "cure"),
    [
        (
            Answer(Side.TARGET, "put", 400, Form.ERROR, "AuthorizationQueryParametersError",
                   "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
            "expecting 'eu-west-1'", "set B2_REGION to eu-west-1",
        ),
        (
            Answer(Side.SOURCE, "get", 400, Form.ERROR, "AuthorizationHeaderMalformed", "wrong", region="eu-1"),
            "was answered 400", "of the region eu-1",
        ),
        (Answer(Side.TARGET, "put", 413, Form.PAGE, message="413 Request Entity Too Large"), "web page", "POLYB2_PART_SIZE"),
        (Answer(Side.TARGET, "list", 407), "answered 407", "the proxy wants a login"),
        (Answer(Side.TARGET, "put", 403, Form.ERROR, "QuotaExceeded"), "answered 403", "quota"),
        (Answer(Side.TARGET, "put", 403, Form.ERROR, "AccessDenied", CAP), "cap exceeded", "Caps & Alerts"),
        (
            Answer(Side.TARGET, "delete", 403, Form.ERROR, "AccessDenied", "protected by object lock"),
            "object lock", "until its retention ends",
        ),
        (Answer(Side.SOURCE, "get", 302), "a redirect that names no host", "POLYGON_S3_ENDPOINT_URL"),
        (Answer(Side.SOURCE, "get", 403), "without the XML that S3 answers with", "POLYGON_S3_ENDPOINT_URL"),
        (Answer(Side.SOURCE, "get", 400, Form.OTHER), "something that is not S3's", "POLYGON_S3_ENDPOINT_URL"),
    ],
)  # fmt: skip
def test_the_words_are_those_of_what_happened(answer: Answer, words: str, cure: str) -> None:
    error = classify(answer)
    assert words in error.message
    assert cure in error.advice


def test_a_signature_that_is_refused_after_a_good_listing_is_no_matter_of_keys() -> None:
    refused = own(Side.TARGET, "put", 403, "SignatureDoesNotMatch")
    error = refused_by_proxy(refused)
    assert error.kind is Kind.MISCONFIGURED
    assert "a proxy between this machine and the endpoint drops or changes signed headers" in error.advice
    assert "B2_KEY_ID" not in str(error)
    unknown = own(Side.TARGET, "put", 403, "InvalidAccessKeyId")
    assert refused_by_proxy(unknown) is unknown


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
@pytest.mark.parametrize("side", Side)
def test_refused_keys_are_never_about_entitlement(side: Side, code: str) -> None:
    for operation in OPERATIONS[side]:
        assert own(side, operation, 403, code).handling.scope is Scope.ACCOUNT


@pytest.mark.parametrize("operation", OPERATIONS[Side.TARGET])
def test_a_cap_pauses_the_run_whatever_was_asked(operation: str) -> None:
    error = own(Side.TARGET, operation, 403, "AccessDenied", CAP)
    assert (error.kind, error.handling.scope) == (Kind.CAP_EXCEEDED, Scope.OUTAGE)
    assert "Caps & Alerts" in str(error)


def test_ancestor_a_file_not_yet_published_is_not_refused_for_good() -> None:
    assert own(Side.SOURCE, "get", 403, "AccessDenied").handling.cured_by_retry


def test_ancestor_a_listing_error_is_an_error() -> None:
    with pytest.raises(RemoteError, match="list was answered 403: Forbidden"):
        raise own(Side.SOURCE, "list", 403, "AccessDenied", "Forbidden")


@given(
    st.sampled_from([(side, operation) for side, operations in OPERATIONS.items() for operation in operations]),
    st.integers(300, 599),
    st.sampled_from(Form),
    st.text("abAB&<>.", max_size=40),
    st.text("abAB&<>. \n", max_size=400),
)
def test_every_answer_is_classed_in_words_of_bounded_length(
    asked: tuple[Side, str], status: int, form: Form, code: str, message: str
) -> None:
    side, operation = asked
    error = classify(Answer(side, operation, status, form, code, message))
    assert error.kind in HANDLING
    assert error.message.startswith(f"{operation} was answered {status}")
    assert len(error.message) < 360
    assert error.code == (code or str(status))


@given(
    st.integers(400, 499).filter(lambda status: status not in {401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 416})
)
def test_a_refusal_that_nobody_knows_is_asked_again_a_few_times_and_then_charged(status: int) -> None:
    """B2 was seen to answer InvalidRequest once, to a part that it accepted the next time."""
    if status in {407, 425, 429}:
        return
    error = own(Side.TARGET, "put", status, "Unheard")
    assert (error.kind, error.handling.tries, error.handling.cured_by_retry) == (Kind.REFUSED, 3, True)


def test_a_page_of_words_is_cut_short() -> None:
    assert len(own(Side.TARGET, "put", 500, "InternalError", "x" * 100_000).message) < 350


def test_retry_after_is_passed_on() -> None:
    assert own(Side.TARGET, "put", 503, "SlowDown", retry_after_s=7.0).retry_after_s == 7.0
