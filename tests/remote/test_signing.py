"""Our presigner against botocore's: the same URL for any key, query and headers."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock
from urllib.parse import parse_qs, quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from polyb2.remote.signing import EXPIRES_S, Presigner

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
ENDPOINT = "https://s3.us-west-004.backblazeb2.com"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def botocores(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> str:
    words = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items())
    url = f"{ENDPOINT}/bucket/{quote(key, safe='/-_.~')}" + (f"?{words}" if words else "")
    request = AWSRequest(method=method, url=url, headers=headers)
    auth = S3SigV4QueryAuth(Credentials("key/id", "s3cr+t"), "s3", "us-west-004", expires=EXPIRES_S)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        auth.add_auth(request)
    return str(request.url)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["GET", "PUT"]),
    st.lists(TEXT, min_size=1, max_size=4).map("/".join),
    st.dictionaries(st.sampled_from(["partNumber", "uploadId", "versionId"]), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["Content-MD5", "x-amz-meta-a", "x-amz-meta-B_b"]), VALUES, max_size=3),
)
def test_the_url_is_botocores(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> None:
    signer = Presigner(endpoint=ENDPOINT, bucket="bucket", region="us-west-004", key_id="key/id", secret="s3cr+t")
    ours = urlsplit(signer.presign(method, key, query=query, headers=headers, now=NOW))
    theirs = urlsplit(botocores(method, key, query, headers))
    assert ours.path == theirs.path
    assert parse_qs(ours.query) == parse_qs(theirs.query)
