"""Whole gzip streams are distinguished from cut and damaged ones, at any cut and in any pieces."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.integrity import GzipCheck


def fed(data: bytes, piece: int = 1000) -> GzipCheck:
    check = GzipCheck()
    for start in range(0, len(data), piece):
        check = check.copy()
        check.feed(data[start : start + piece])
    return check


@given(st.binary(max_size=5000), st.integers(2, 700), st.integers(0, 3))
def test_a_whole_stream_is_whole_in_any_pieces(data: bytes, piece: int, members: int) -> None:
    assert not fed(gzip.compress(data) + gzip.compress(data[::-1]) * members, piece).is_broken


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_a_stream_that_is_cut_is_broken(data: bytes, drawn: st.DataObject) -> None:
    whole = gzip.compress(data)
    assert fed(whole[: drawn.draw(st.integers(2, len(whole) - 1))]).is_broken


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_the_data_or_the_checksum_is_found(seed: int) -> None:
    chance = random.Random(seed)
    damaged = bytearray(gzip.compress(chance.randbytes(3000)))
    damaged[chance.randrange(10, len(damaged))] ^= 1 << chance.randrange(8)
    assert fed(bytes(damaged)).is_broken


@pytest.mark.parametrize("data", [b"", b"ticker,volume\n", b"PK\x03\x04", b"\x1f"])
def test_what_is_no_gzip_is_not_broken(data: bytes) -> None:
    assert not fed(data).is_broken


def test_a_bomb_takes_no_memory() -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    tracemalloc.start()
    assert not fed(bomb, 1 << 20).is_broken
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
