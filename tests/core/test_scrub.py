"""No query string and no signature leaves the process."""

from __future__ import annotations

import pytest

from polyb2.core.scrub import scrub

URL = "https://h/b/k?X-Amz-Credential=AKIA%2F20240102&X-Amz-Signature=abcdef0123"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (f"cannot reach {URL} now", "cannot reach https://h/b/k?... now"),
        (f"URL('{URL}')", "URL('https://h/b/k?...')"),
        (f'<a href="{URL}">', '<a href="https://h/b/k?...">'),
        ("Authorization: AWS4 Credential=A/b, Signature=0a1b", "Authorization: AWS4 Credential=..., Signature=..."),
        ("X-Amz-Signature=00ff", "X-Amz-Signature=..."),
        ("cannot reach http://user:s3cr3t@proxy:3128/ now", "cannot reach http://...@proxy:3128/ now"),
        ("is it there? yes=no", "is it there? yes=no"),
        ("which? file", "which? file"),
        ("", ""),
    ],
)
def test_what_is_taken_out_and_what_stays(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed
