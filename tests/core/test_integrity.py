"""The forms of ETags and their meaning; the composite of parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.integrity import ProofMark, Verification, clean_etag, composite, composite_parts, md5_form

MD5 = "0123456789abcdef0123456789abcdef"
ETAG_TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), max_size=40)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.mark.parametrize(
    ("raw", "etag"),
    [
        (f'"{MD5}"', MD5),
        (f' "{MD5.upper()}" ', MD5),
        (f'W/"{MD5}"', MD5),
        (f'"{MD5.upper()}-12"', f"{MD5}-12"),
        ('"Opaque-Token"', "Opaque-Token"),
        ('""', ""),
        ("", ""),
        (f"{MD5.upper()}0", f"{MD5.upper()}0"),
    ],
)
def test_an_etag_is_compared_without_quotes_and_hex_in_lower_case(raw: str, etag: str) -> None:
    assert clean_etag(raw) == etag


@given(ETAG_TEXT.filter(lambda text: not text.startswith("W/")))
def test_cleaning_twice_changes_nothing_and_quotes_do_not_matter(text: str) -> None:
    assert clean_etag(clean_etag(text)) == clean_etag(f'"{text}"') == clean_etag(f'W/"{text}"')


def test_an_etag_that_begins_like_a_weakness_mark_survives_its_way_through_the_metadata() -> None:
    etag = clean_etag('"W/x"')
    assert clean_etag(etag) == etag


@pytest.mark.parametrize(
    ("etag", "hashes", "parts"),
    [
        (MD5, True, None),
        (f"{MD5}-1", False, 1),
        (f"{MD5}-10000", False, 10000),
        (f"{MD5}-0", False, None),
        (f"{MD5}-012", False, None),
        (f"{MD5}-", False, None),
        (f"{MD5[1:]}-2", False, None),
        (MD5[1:], False, None),
        (f"{MD5}\n", False, None),
        ("g" * 32, False, None),
        ("", False, None),
    ],
)
def test_only_the_form_of_an_etag_tells_what_it_may_be(etag: str, hashes: bool, parts: int | None) -> None:
    assert md5_form(etag) == (etag if hashes else None)
    assert composite_parts(etag) == parts


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_the_composite_is_the_md5_of_the_md5s_and_their_number(parts: list[bytes]) -> None:
    digests = hashlib.md5()
    for part in parts:
        digests.update(hashlib.md5(part).digest())
    made = composite([md5(part) for part in parts])
    assert made == f"{digests.hexdigest()}-{len(parts)}"
    assert composite_parts(made) == len(parts)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=5, unique=True))
def test_parts_in_another_order_have_another_composite(parts: list[bytes]) -> None:
    digests = [md5(part) for part in parts]
    assert composite(digests) != composite(digests[::-1])


@pytest.mark.parametrize("opaque", ["opaque", f"{MD5}-1", "", MD5[1:]])
def test_no_composite_is_made_from_what_has_not_the_form_of_an_md5(opaque: str) -> None:
    assert composite([MD5, opaque]) is None


def test_the_words_of_a_proof_are_the_contracts() -> None:
    assert [str(word) for word in Verification] == ["etag", "parts", "readback"]
    assert [str(word) for word in ProofMark] == ["before", "readback"]
