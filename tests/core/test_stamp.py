"""Our marks on an object: they come back as written, whatever a server does to names and values on the way."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyb2.core.integrity import ProofMark, clean_etag
from polyb2.core.stamp import Stamp

STAMP = Stamp("t0k3n", 'a b"ö%20=?utf-8?q?x?=-2', ProofMark.BEFORE, "0.1.0", 1_700_000_000_250, 1_700_000_000_250)
MOMENTS = st.none() | st.integers(0, 10**15)
STAMPS = st.builds(
    Stamp,
    st.none() | st.text("0123456789abcdef", min_size=1),
    st.none() | st.text(),
    st.none() | st.sampled_from(ProofMark),
    st.none() | st.just("0.1.0"),
    MOMENTS,
    MOMENTS,
)


@given(STAMPS)
@example(STAMP)
def test_every_stamp_comes_back_as_it_was_written(stamp: Stamp) -> None:
    assert Stamp.from_headers(stamp.to_headers()) == stamp


@given(st.text(st.characters()))
@example("\udc80")
def test_any_etag_is_plain_ascii_on_the_wire(etag: str) -> None:
    headers = Stamp(source_etag=etag).to_headers()
    assert all(value.isascii() and value.isprintable() and " " not in value for value in headers.values())
    assert Stamp.from_headers(headers).source_etag == etag


def _upper(headers: dict[str, str]) -> dict[str, str]:
    return {name.title(): value for name, value in headers.items()}


def _as_rgw(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _padded(headers: dict[str, str]) -> dict[str, str]:
    return {name: f" {value} " for name, value in headers.items()}


def _as_words(headers: dict[str, str]) -> dict[str, str]:
    return {
        name: f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?=" if "%" in value else f"=?utf-8?q?{value}?="
        for name, value in headers.items()
    }


@pytest.mark.parametrize("bend", [_upper, _as_rgw, _padded, _as_words])
def test_what_servers_do_to_metadata_on_the_way_is_undone(bend: object) -> None:
    assert callable(bend)
    assert Stamp.from_headers(bend(STAMP.to_headers())) == STAMP


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"polyb2-proof": "surely"},
        {"polyb2-source-etag": "%ff%zz"},
        {"mtime": "yesterday", "src_last_modified_millis": "1e9"},
        {"mtime": "9" * 5000, "src_last_modified_millis": "²"},
    ],
)
def test_what_is_not_ours_says_nothing(headers: dict[str, str]) -> None:
    assert Stamp.from_headers(headers) == Stamp()


@pytest.mark.parametrize("value", ["=?", "=??=", "=?nowhere?b?eA==?=", "=?utf-8?b?!!!?="])
def test_a_broken_rfc_2047_word_is_only_text(value: str) -> None:
    assert isinstance(Stamp.from_headers({"polyb2-token": value}).token, str)


def test_what_came_back_changed_is_named() -> None:
    seen = replace(STAMP, mtime_ms=0, modified_ms=None)
    assert STAMP.changed(seen) == ["mtime", "src_last_modified_millis"]
    assert STAMP.changed(STAMP) == []


def test_an_etag_in_latin_1_is_the_one_that_the_listing_shows() -> None:
    on_the_wire = '"größe 1"'.encode("latin-1").decode("utf-8", "surrogateescape")
    assert clean_etag(on_the_wire) == clean_etag('"größe 1"') == "größe 1"
