"""The decision about an earlier attempt's remains: settle, go on, keep looking, or start again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import Claim, PartProof, Receipt, Revision, StoredObject, StoredPart, Upload, UploadState
from polyb2.core.recovery import Finding, Traces, assess, confirmed, is_ours
from polyb2.core.stamp import Stamp

SINGLE = Claim(1, "k", "a/b", Revision(2, "abc", 100, 0), 3, 0, 1, "now", frozenset({"before"}))
UPLOAD = Upload(1, 2, "k", "up", "upload", PartPlan(100, 50), PartProof.PARTS, UploadState.OPEN)
OPEN = replace(SINGLE, upload=UPLOAD)
COMPLETING = replace(SINGLE, upload=replace(UPLOAD, state=UploadState.COMPLETING))


def stored(token: str | None = "upload", etag: str = "abc", size: int = 100) -> StoredObject:
    return StoredObject(size, "whatever", "v", Stamp(token, etag))


@pytest.mark.parametrize(
    ("claim", "found", "parts", "finding"),
    [
        (SINGLE, None, None, Finding.START),
        (SINGLE, stored("before"), None, Finding.LANDED),
        (SINGLE, stored("stranger"), None, Finding.START),
        (OPEN, None, None, Finding.START),
        (OPEN, None, (), Finding.RESUME),
        (OPEN, None, (StoredPart(1, 50, "x"),), Finding.RESUME),
        (OPEN, stored(), None, Finding.LANDED),
        (OPEN, stored("stranger"), (), Finding.RESUME),
        (OPEN, stored("stranger"), None, Finding.START),
        (COMPLETING, None, None, Finding.WAIT),
        (COMPLETING, stored("stranger"), None, Finding.WAIT),
        (COMPLETING, stored(etag="older"), None, Finding.WAIT),
        (COMPLETING, stored(), None, Finding.LANDED),
        (COMPLETING, stored(), (), Finding.LANDED),
        (COMPLETING, None, (), Finding.RESUME),
    ],
)
def test_the_traces_of_an_earlier_attempt(
    claim: Claim, found: StoredObject | None, parts: tuple[StoredPart, ...] | None, finding: Finding
) -> None:
    assert assess(claim, Traces(found, parts)) is finding


@pytest.mark.parametrize(
    ("claim", "found", "ours"),
    [
        (OPEN, stored("upload"), True),
        (OPEN, stored("now"), True),
        (OPEN, stored("before"), True),
        (SINGLE, stored("upload"), False),
        (OPEN, stored("stranger"), False),
        (OPEN, stored(""), False),
        (OPEN, stored(None), False),
        (OPEN, stored(size=99), False),
        (OPEN, stored(etag="older"), False),
        (OPEN, stored(etag='"abc"'), True),
        (OPEN, StoredObject(100, "abc", "v"), False),
        (OPEN, None, False),
    ],
)
def test_ours_is_what_has_our_token_the_size_and_the_revision(
    claim: Claim, found: StoredObject | None, ours: bool
) -> None:
    assert is_ours(claim, found) is ours


RECEIPTS = tuple(Receipt(Part(number, (number - 1) * 50, 50), f"etag{number}", None) for number in range(1, 6))
PARTS = tuple(StoredPart(receipt.part.number, 50, receipt.etag) for receipt in RECEIPTS)


@pytest.mark.parametrize(
    ("parts", "numbers"),
    [
        (PARTS, [1, 2, 3, 4, 5]),
        (PARTS[::-1], [1, 2, 3, 4, 5]),
        ((), []),
        (PARTS[1:3], [2, 3]),
        ((replace(PARTS[0], size=49), *PARTS[1:]), [2, 3, 4, 5]),
        ((replace(PARTS[0], etag="other"), *PARTS[1:]), [2, 3, 4, 5]),
        ((replace(PARTS[0], number=9), *PARTS[1:]), [2, 3, 4, 5]),
        ((*PARTS, StoredPart(6, 50, "etag6")), [1, 2, 3, 4, 5]),
    ],
)
def test_a_part_is_kept_only_if_number_size_and_etag_are_confirmed(
    parts: tuple[StoredPart, ...], numbers: list[int]
) -> None:
    assert [receipt.part.number for receipt in confirmed(RECEIPTS, parts)] == numbers


@given(st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4)))
def test_what_is_confirmed_is_what_both_sides_have(ours: set[int], theirs: set[int]) -> None:
    kept = confirmed(tuple(RECEIPTS[i] for i in sorted(ours)), tuple(PARTS[i] for i in sorted(theirs)))
    assert kept == tuple(RECEIPTS[i] for i in sorted(ours & theirs))
