"""The meaning of an HTTP answer of either side: one :class:`Answer` in, one classed error out.

The first question is whether the service itself answered. S3 writes an XML body with a code on each error, and only HEAD has
none; anything else (an HTML page, a redirect, an empty 403) was written by an intermediary and is trouble of the
side, whatever its status says. The second question, for the service's own words, is answered by Backblaze's table of errors,
users' reports of 2026-11, and the three meanings of 403 at the flat-files endpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from polyb2.core.errors import Kind, Origin, RemoteError, Side
from polyb2.core.units import format_duration

MESSAGE_MAX = 300
WAIT_LOGGED_S = 5
"""A longer Retry-After is mentioned in the message, to explain the long wait."""
_HEADS = {"head", "head_bucket"}
"""Operations whose errors have no body."""
_HEAD_ERRORS = {400, 403, 404, 405, 409, 412, 416, 429, 501}
"""Statuses below 500 that are taken for the service's own answer to a HEAD although no request id is present."""
_BARE_ERRORS = {412, 416}
"""Statuses that answer a request header, so that no intermediary has a reason to send them."""
_ACCOUNT_CODES = ("AccountProblem", "AccountSuspended", "UserSuspended", "NotSignedUp", "AllAccessDisabled")
"""Errors about the account that the keys belong to, not about the keys (Ceph RGW says UserSuspended) and never about
one file."""
_BY_CODE: dict[str, Kind] = {
    "InvalidAccessKeyId": Kind.KEYS_REFUSED,
    "SignatureDoesNotMatch": Kind.KEYS_REFUSED,
    "InvalidToken": Kind.KEYS_REFUSED,
    "ExpiredToken": Kind.KEYS_REFUSED,
    **dict.fromkeys(_ACCOUNT_CODES, Kind.KEYS_REFUSED),
    "RequestTimeTooSkewed": Kind.CLOCK_SKEW,
    "NoSuchUpload": Kind.NO_SUCH_UPLOAD,
    "NoSuchBucket": Kind.MISCONFIGURED,
    "InvalidBucketName": Kind.MISCONFIGURED,
    "PermanentRedirect": Kind.MISCONFIGURED,
    "TemporaryRedirect": Kind.MISCONFIGURED,
    "AuthorizationHeaderMalformed": Kind.MISCONFIGURED,
    "AuthorizationQueryParametersError": Kind.MISCONFIGURED,
    "SlowDown": Kind.THROTTLED,
    "TooManyRequests": Kind.THROTTLED,
    "BadDigest": Kind.BAD_DIGEST,
    "RequestTimeout": Kind.CONNECTION_LOST,
    "IncompleteBody": Kind.CONNECTION_LOST,
    "PreconditionFailed": Kind.CHANGED,
    "InvalidRange": Kind.INCONSISTENT,
    "InvalidPart": Kind.MISMATCH,
    "InternalError": Kind.SERVER_ERROR,
    "ServiceUnavailable": Kind.SERVER_ERROR,  # the rate limiter slows down for it all the same (remote/limiter.py)
    "OperationAborted": Kind.SERVER_ERROR,
    "QuotaExceeded": Kind.CAP_EXCEEDED,
    "XMinioStorageFull": Kind.CAP_EXCEEDED,
    "NotImplemented": Kind.UNSUPPORTED,
    "MethodNotAllowed": Kind.UNSUPPORTED,
    "EntityTooLarge": Kind.UNSUPPORTED,
    "KeyTooLongError": Kind.UNSUPPORTED,
    "ObjectLocked": Kind.UNSUPPORTED,
}
_BY_STATUS: dict[int, Kind] = {
    401: Kind.KEYS_REFUSED,
    404: Kind.NOT_FOUND,
    405: Kind.UNSUPPORTED,
    408: Kind.CONNECTION_LOST,
    409: Kind.SERVER_ERROR,
    410: Kind.NOT_FOUND,
    412: Kind.CHANGED,
    413: Kind.UNSUPPORTED,
    414: Kind.UNSUPPORTED,
    416: Kind.INCONSISTENT,
    425: Kind.SERVER_ERROR,
    429: Kind.THROTTLED,
    501: Kind.UNSUPPORTED,
    507: Kind.CAP_EXCEEDED,
}
_OF_ONE_SIDE = {Side.SOURCE: Kind.CAP_EXCEEDED, Side.TARGET: Kind.CHANGED}
"""Kinds that each side itself never means."""
_PASSING: dict[int, Kind] = {408: Kind.CONNECTION_LOST, 425: Kind.SERVER_ERROR, 429: Kind.THROTTLED}
"""Statuses about the moment and not about the request, also when a proxy sends them: retried as often as the
service's own."""
_LASTING = {501, 505, 511}
_SERVER_ERRORS = range(500, 600)
_REDIRECTS = {301, 302, 303, 307, 308}
_FORBIDDEN, _PROXY_LOGIN, _TOO_LARGE = 403, 407, 413
_CAP = re.compile(r"\bcap exceeded\b|Caps & Alerts", re.IGNORECASE)
_QUOTA = re.compile(r"\bquota\b", re.IGNORECASE)
_LOCK = re.compile(r"object lock|\bWORM\b|\bretention\b|legal hold", re.IGNORECASE)
_BODY_CUT = re.compile(r"body was too small", re.IGNORECASE)
_EXPIRED = re.compile(r"request has expired|not yet valid", re.IGNORECASE)
_EXPECTED_REGION = re.compile(r"expecting '([A-Za-z0-9-]{1,40})'")
_ENDPOINT = {Side.SOURCE: "POLYGON_S3_ENDPOINT_URL", Side.TARGET: "B2_ENDPOINT_URL"}
_ADVICE_BY_STATUS = {
    _PROXY_LOGIN: "the proxy wants a login: HTTPS_PROXY=http://user:password@host:port",
    _TOO_LARGE: "the service, or a proxy before it, refuses a body of this size: raise its limit, or lower POLYB2_PART_SIZE",
}
_ADVISED = {Kind.MISCONFIGURED, Kind.BAD_ANSWER, Kind.UNSUPPORTED}
_SIGNED_CODE = "SignatureDoesNotMatch"
_ADVICE_BY_CODE = dict.fromkeys(
    _ACCOUNT_CODES, "the service refuses the account that the keys belong to: see its dashboard, or ask its support"
)


class Form(StrEnum):
    """The kind of body that an answer has."""

    ERROR = "error"
    """S3's: XML with a code."""
    PAGE = "page"
    """HTML."""
    EMPTY = "empty"
    OTHER = "other"
    """Anything else: XML that is cut, text, JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is not what was asked for.

    Attributes:
        side: the side that was asked.
        operation: the operation (``list``, ``get``, ``head``, ``put``, ``upload_part``, ...).
        status: the HTTP status.
        form: what the body is.
        code: the S3 error code; only with :attr:`Form.ERROR`.
        message: the service's own words, or the title of a page.
        marked: it has the request id that the service puts on each of its answers.
        moved_to: the host of a redirect.
        region: the region that the service says it has.
        retry_after_s: from the Retry-After header.
    """

    side: Side
    operation: str
    status: int
    form: Form = Form.EMPTY
    code: str = ""
    message: str = ""
    marked: bool = False
    moved_to: str = ""
    region: str = ""
    retry_after_s: float | None = None

    @property
    def origin(self) -> Origin:
        """Tell if the service or an intermediary wrote the answer."""
        if self.form is Form.ERROR:
            return Origin.SERVICE
        if self.status in _REDIRECTS or self.form is not Form.EMPTY:
            return Origin.INTERMEDIARY
        if self.marked:
            return Origin.SERVICE
        accepted = _HEAD_ERRORS if self.operation in _HEADS else _BARE_ERRORS
        is_own = self.status in accepted or (self.operation in _HEADS and self.status in _SERVER_ERRORS)
        return Origin.UNMARKED if is_own else Origin.INTERMEDIARY

    @property
    def expected_region(self) -> str:
        """The region that the service expects in signatures; empty where it does not say."""
        found = _EXPECTED_REGION.search(self.message)
        return found[1] if found else self.region


def classify(answer: Answer) -> RemoteError:
    """Turn an answer into its error."""
    origin = answer.origin
    kind = _of_intermediary(answer) if origin is Origin.INTERMEDIARY else _of_service(answer)
    return RemoteError(
        answer.side,
        kind,
        f"{answer.operation} was answered {answer.status}{_words(answer, origin)}{_wait(answer)}",
        retry_after_s=answer.retry_after_s,
        code=answer.code or str(answer.status),
        origin=origin,
        advice=_advice(answer, kind),
    )


def refused_by_proxy(error: RemoteError) -> RemoteError:
    """Reclassify a refused signature after the same keys signed a listing: the keys are good, so a proxy is at fault."""
    if error.code != _SIGNED_CODE:
        return error
    words = f"{error.message}, though the same keys were accepted for a listing"
    cure = (
        "a proxy between this machine and the endpoint drops or changes signed headers: let it pass every header and the "
        "path as they are (nginx: underscores_in_headers on; proxy_set_header Host $http_host)"
    )
    return RemoteError(error.side, Kind.MISCONFIGURED, words, code=error.code, advice=cure)


# -- the class --------------------------------------------------------------------------------------------------------


def _of_intermediary(answer: Answer) -> Kind:
    status = answer.status
    if status in _REDIRECTS or status == _PROXY_LOGIN:
        return Kind.MISCONFIGURED
    if status in _SERVER_ERRORS and status not in _LASTING:
        return Kind.SERVER_ERROR
    return _PASSING.get(status, Kind.BAD_ANSWER)


def _of_service(answer: Answer) -> Kind:
    if answer.status in _REDIRECTS or answer.status == _PROXY_LOGIN:
        return Kind.MISCONFIGURED
    if (by_words := _by_words(answer)) is not None:
        return by_words
    if answer.code not in _BY_CODE and answer.status == _FORBIDDEN:
        return _forbidden(answer)
    other = Kind.SERVER_ERROR if answer.status in _SERVER_ERRORS else Kind.REFUSED
    kind = _BY_CODE.get(answer.code) or _BY_STATUS.get(answer.status, other)
    # Only the source is asked for a revision, and only the target has room that can be used up.
    return other if kind is _OF_ONE_SIDE.get(answer.side) else kind


def _by_words(answer: Answer) -> Kind | None:
    """Classify by the message, if only that decides: B2 says AccessDenied for a cap, S3 for a lock and an old signature."""
    message = answer.message
    if _CAP.search(message):
        return Kind.CAP_EXCEEDED
    if _QUOTA.search(message) and answer.side is Side.TARGET:
        return Kind.CAP_EXCEEDED
    if _BODY_CUT.search(message):
        return Kind.CONNECTION_LOST
    if answer.status == _FORBIDDEN and _EXPIRED.search(message):
        return Kind.CLOCK_SKEW
    return Kind.UNSUPPORTED if answer.operation == "delete" and _LOCK.search(message) else None


def _forbidden(answer: Answer) -> Kind:
    if answer.side is Side.SOURCE:
        return Kind.KEYS_REFUSED if answer.operation == "list" else Kind.FORBIDDEN
    # A key without listBuckets is answered 403 for HEAD of a missing object: that says nothing about the object.
    return Kind.FORBIDDEN if answer.operation == "head" else Kind.NOT_PERMITTED


# -- the words --------------------------------------------------------------------------------------------------------


def _words(answer: Answer, origin: Origin) -> str:
    if answer.status in _REDIRECTS:
        return f": the endpoint moved to {answer.moved_to}" if answer.moved_to else ": a redirect that names no host"
    message = answer.message.strip()[:MESSAGE_MAX]
    if origin is not Origin.INTERMEDIARY:
        return f": {message}" if message else ""
    if answer.form is Form.PAGE:
        return f' with a web page ("{message}")' if message else " with a web page"
    return " without the XML that S3 answers with" if answer.form is Form.EMPTY else " with something that is not S3's"


def _wait(answer: Answer) -> str:
    wait_s = answer.retry_after_s or 0
    return f", asking to wait {format_duration(wait_s)}" if wait_s > WAIT_LOGGED_S else ""


def _advice(answer: Answer, kind: Kind) -> str:
    """Advice for this very case, where the advice for the kind would mislead the reader."""
    setting = _ENDPOINT[answer.side]
    if answer.status in _REDIRECTS:
        return f"polyb2 does not follow redirects: set {setting} to the endpoint itself, or log in to the network"
    known = _ADVICE_BY_CODE.get(answer.code) or (_ADVICE_BY_STATUS.get(answer.status) if kind in _ADVISED else None)
    if known is not None:
        return known
    if kind is Kind.MISCONFIGURED and answer.expected_region:
        region = answer.expected_region
        is_set = answer.side is Side.TARGET
        return (
            f"set B2_REGION to {region}"
            if is_set
            else f"{setting} is of the region {region}, which polyb2 does not sign for"
        )
    if kind is Kind.CAP_EXCEEDED and not _CAP.search(answer.message):
        return "the quota or the space of the bucket is used up: raise it at the target, and the run continues"
    if kind is Kind.UNSUPPORTED and answer.operation == "delete" and _LOCK.search(answer.message):
        return "the version is locked until its retention ends; it stays, and is billed until then"
    return ""
