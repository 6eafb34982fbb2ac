"""What an HTTP answer of either side means: status, S3 error code and message in, one classed error out.

The table is that of Backblaze's documentation and of users' reports of 2026-11 (its source column: ``b2.md`` errors), and
the three meanings of 403 at the flat-files endpoint. A 403 of an object there is about the plan; of a listing, about keys.
"""

from __future__ import annotations

import re

from polyb2.core.errors import Kind, RemoteError, Side

_BY_CODE: dict[str, Kind] = {
    "InvalidAccessKeyId": Kind.KEYS_REFUSED,
    "SignatureDoesNotMatch": Kind.KEYS_REFUSED,
    "InvalidToken": Kind.KEYS_REFUSED,
    "ExpiredToken": Kind.KEYS_REFUSED,
    "RequestTimeTooSkewed": Kind.CLOCK_SKEW,
    "NoSuchUpload": Kind.NO_SUCH_UPLOAD,
    "NoSuchBucket": Kind.MISCONFIGURED,
    "InvalidBucketName": Kind.MISCONFIGURED,
    "PermanentRedirect": Kind.MISCONFIGURED,
    "AuthorizationHeaderMalformed": Kind.MISCONFIGURED,
    "SlowDown": Kind.THROTTLED,
    "TooManyRequests": Kind.THROTTLED,
    "BadDigest": Kind.BAD_DIGEST,
    "RequestTimeout": Kind.CONNECTION_LOST,
    "IncompleteBody": Kind.CONNECTION_LOST,
    "PreconditionFailed": Kind.CHANGED,
    "InvalidRange": Kind.CHANGED,
    "InvalidPart": Kind.MISMATCH,
    "InternalError": Kind.SERVER_ERROR,
    "ServiceUnavailable": Kind.SERVER_ERROR,
    "OperationAborted": Kind.SERVER_ERROR,
    "NotImplemented": Kind.REFUSED,
}
_BY_STATUS: dict[int, Kind] = {
    401: Kind.KEYS_REFUSED,
    404: Kind.NOT_FOUND,
    408: Kind.CONNECTION_LOST,
    409: Kind.SERVER_ERROR,
    412: Kind.CHANGED,
    416: Kind.CHANGED,
    429: Kind.THROTTLED,
    501: Kind.REFUSED,
}
_SERVER_ERRORS = range(500, 600)
_REDIRECTS = range(300, 400)
_BAD_REQUEST = 400
_FORBIDDEN = 403
_CAP = re.compile(r"\bcap exceeded\b|Caps & Alerts", re.IGNORECASE)
_BODY_CUT = re.compile(r"body was too small", re.IGNORECASE)


def classify(
    side: Side,
    operation: str,
    status: int,
    *,
    code: str = "",
    message: str = "",
    retry_after_s: float | None = None,
) -> RemoteError:
    """The error that an answer stands for.

    Args:
        side: who answered.
        operation: what was asked (``list``, ``get``, ``head``, ``put``, ``upload_part``, ...).
        status: the HTTP status.
        code: the S3 error code from the body, empty where there was none (HEAD, HTML).
        message: the service's own words.
        retry_after_s: from the Retry-After header.
    """
    kind = _kind(side, operation, status, code, message)
    words = f"{operation} was answered {status}" + (f": {message.strip()[:300]}" if message.strip() else "")
    return RemoteError(side, kind, words, retry_after_s=retry_after_s, code=code or str(status))


def _kind(side: Side, operation: str, status: int, code: str, message: str) -> Kind:
    if _CAP.search(message):
        return Kind.CAP_EXCEEDED
    if _BODY_CUT.search(message):
        return Kind.CONNECTION_LOST
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status == _FORBIDDEN:
        return _forbidden(side, operation)
    return _by_status(status, has_code=bool(code))


def _by_status(status: int, *, has_code: bool) -> Kind:
    if status in _SERVER_ERRORS and status not in _BY_STATUS:
        return Kind.SERVER_ERROR
    if status == _BAD_REQUEST and not has_code:
        # An answer to HEAD has no body: it may have been RequestTimeout.
        return Kind.BAD_ANSWER
    return _BY_STATUS.get(status, Kind.MISCONFIGURED if status in _REDIRECTS else Kind.REFUSED)


def _forbidden(side: Side, operation: str) -> Kind:
    if side is Side.SOURCE:
        return Kind.KEYS_REFUSED if operation == "list" else Kind.FORBIDDEN
    # A key without listBuckets is answered 403 for HEAD of a missing object: that says nothing about the object.
    return Kind.FORBIDDEN if operation == "head" else Kind.NOT_PERMITTED
