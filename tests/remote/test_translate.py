"""Foreign errors in our words."""

from __future__ import annotations

from botocore.exceptions import ClientError

from polyb2.core.errors import Side
from polyb2.remote.translate import translate


def test_an_empty_message_of_the_service_is_no_words() -> None:
    answer = {"Error": {"Code": "AccessDenied", "Message": None}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    foreign = ClientError(answer, "ListObjectsV2")  # type: ignore[arg-type]
    assert translate(Side.SOURCE, "list", foreign).found == "list was answered 403 (AccessDenied)"
