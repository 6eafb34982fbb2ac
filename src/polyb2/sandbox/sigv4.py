"""Checks AWS Signature Version 4, in the Authorization header and in presigned URLs, as B2 does: always.

Written from the specification and apart from polyb2's own signer, so that the two check each other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from polyb2.sandbox.exchange import S3Error

SKEW_MAX = timedelta(minutes=15)
_FORBIDDEN = 403


def check_signature(
    method: str, raw_path: str, headers: Mapping[str, str], keys: Mapping[str, str], offset_s: float = 0.0
) -> str:
    """Check a request's signature; return the region that it names.

    Args:
        method: the HTTP method.
        raw_path: path and query as they came over the wire.
        headers: of the request; names in any case.
        keys: secret by access key id.
        offset_s: seconds by which the server's clock is off.

    Raises:
        S3Error: as S3 answers a bad one.
    """
    path, _, raw_query = raw_path.partition("?")
    query = parse_qsl(raw_query, keep_blank_values=True)
    found = {name.lower(): value for name, value in headers.items()}
    facts = dict(query)
    if "X-Amz-Signature" in facts:
        facts["payload"] = "UNSIGNED-PAYLOAD"
        lifetime = timedelta(seconds=int(facts.get("X-Amz-Expires", "0")))
    else:
        facts = _from_header(found)
        lifetime = SKEW_MAX
    key_id, day, region, service, _ = (*facts["X-Amz-Credential"].rsplit("/", 4), "")[:5]
    if key_id not in keys:
        raise S3Error(_FORBIDDEN, "InvalidAccessKeyId", "Malformed Access Key Id")
    _check_time(facts["X-Amz-Date"], lifetime, offset_s)
    names = facts["X-Amz-SignedHeaders"].split(";")
    _check_names(names, found)
    canonical = _canonical(method, path, query, found, names, facts["payload"])
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            facts["X-Amz-Date"],
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = b"AWS4" + keys[key_id].encode()
    for piece in (day, region, service, "aws4_request", to_sign):
        key = hmac.digest(key, piece.encode(), "sha256")
    if not hmac.compare_digest(key.hex(), facts["X-Amz-Signature"]):
        raise S3Error(_FORBIDDEN, "SignatureDoesNotMatch", "Signature validation failed")
    return region


def _from_header(headers: Mapping[str, str]) -> dict[str, str]:
    authorization = headers.get("authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        raise S3Error(_FORBIDDEN, "AccessDenied", "Unauthenticated requests are not allowed for this api")
    fields = dict(piece.strip().split("=", 1) for piece in authorization.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    return {
        "X-Amz-Credential": fields["Credential"],
        "X-Amz-SignedHeaders": fields["SignedHeaders"],
        "X-Amz-Signature": fields["Signature"],
        "X-Amz-Date": headers.get("x-amz-date", ""),
        "payload": headers.get("x-amz-content-sha256", ""),
    }


def _check_time(stamp: str, lifetime: timedelta, offset_s: float) -> None:
    now = datetime.now(UTC) + timedelta(seconds=offset_s)
    signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if signed - now > SKEW_MAX or (now - signed > SKEW_MAX and now - signed > lifetime):
        raise S3Error(_FORBIDDEN, "RequestTimeTooSkewed", "The request's time and the server's differ too much")
    if now - signed > lifetime:
        raise S3Error(_FORBIDDEN, "AccessDenied", "Request has expired")


def _check_names(names: list[str], headers: Mapping[str, str]) -> None:
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in names]
    if unsigned:
        raise S3Error(_FORBIDDEN, "AccessDenied", f"Headers of the request were not signed: {unsigned}")
    if any(name not in headers for name in names):
        raise S3Error(_FORBIDDEN, "SignatureDoesNotMatch", "a signed header is missing")


def _canonical(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: Mapping[str, str],
    names: list[str],
    payload: str,
) -> str:
    pairs = sorted((_encode(name), _encode(value)) for name, value in query if name != "X-Amz-Signature")
    return "\n".join(
        [
            method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names),
            ";".join(names),
            payload,
        ]
    )


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")
