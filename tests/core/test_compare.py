"""Listing against ledger, bucket against source: what is sent, what is adopted, what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.compare import SOURCE_GONE, Adoption, Change, adoption, compare, listed_equal
from polyb2.core.records import KnownFile, ListedObject, StoredObject
from polyb2.core.stamp import Stamp
from polyb2.core.status import Status

MD5 = "0123456789abcdef0123456789abcdef"
OTHER = MD5[::-1]
LISTED = ListedObject("k", 100, MD5, 1)
KNOWN = KnownFile(1, "k", Status.COMPLETED, None, 100, MD5, 1, 1, MD5, 100, MD5)
GONE = replace(KNOWN, status=Status.PERMANENT_FAILURE, reason=SOURCE_GONE)
Given = dict[str, str]


def stored(size: int = 100, etag: str = f"{OTHER}-2", **metadata: str) -> StoredObject:
    marks = {f"polyb2-{name.replace('_', '-')}": words for name, words in metadata.items()}
    return StoredObject(size, etag, "v", Stamp.from_headers(marks))


@pytest.mark.parametrize(
    ("known", "listed", "change"),
    [
        (None, LISTED, Change.NEW),
        (KNOWN, LISTED, Change.UNCHANGED),
        (KNOWN, replace(LISTED, last_modified_ms=2), Change.TOUCHED),
        (KNOWN, replace(LISTED, last_modified_ms=0), Change.TOUCHED),
        (KNOWN, replace(LISTED, etag=OTHER), Change.REVISED),
        (KNOWN, replace(LISTED, size=99), Change.REVISED),
        (replace(KNOWN, etag=OTHER, mirrored_etag=MD5), LISTED, Change.REVISED),
        (GONE, LISTED, Change.RELISTED),
        (GONE, replace(LISTED, last_modified_ms=2), Change.RELISTED),
        (GONE, replace(LISTED, size=99), Change.REVISED),
        (replace(GONE, reason="refused"), LISTED, Change.UNCHANGED),
        (replace(KNOWN, reason=SOURCE_GONE), LISTED, Change.UNCHANGED),
    ],
)
def test_a_listed_file_against_the_ledger(known: KnownFile | None, listed: ListedObject, change: Change) -> None:
    assert compare(known, listed) is change


@pytest.mark.parametrize("status", Status)
def test_ancestor_a_replaced_file_is_noticed_whatever_became_of_the_old_one(status: Status) -> None:
    assert compare(replace(KNOWN, status=status), replace(LISTED, etag=OTHER)) is Change.REVISED


@given(st.integers(), st.sampled_from(Status))
def test_a_changed_last_modified_alone_sends_nothing(last_modified_ms: int, status: Status) -> None:
    change = compare(replace(KNOWN, status=status), replace(LISTED, last_modified_ms=last_modified_ms))
    assert change is (Change.UNCHANGED if last_modified_ms == 1 else Change.TOUCHED)


@pytest.mark.parametrize(
    ("theirs", "equal"),
    [
        (LISTED, True),
        (replace(LISTED, last_modified_ms=9), True),
        (replace(LISTED, size=99), False),
        (replace(LISTED, etag=OTHER), False),
        (None, False),
    ],
)
def test_two_listings_are_equal_by_size_and_etag(theirs: ListedObject | None, equal: bool) -> None:
    assert listed_equal(LISTED, theirs) is equal


def test_two_listings_without_an_etag_show_nothing() -> None:
    assert not listed_equal(replace(LISTED, etag=""), replace(LISTED, etag=""))


@pytest.mark.parametrize(
    ("found", "worth"),
    [
        (None, Adoption.NO),
        (stored(etag=MD5), Adoption.AS_ETAG),
        (stored(size=99, etag=MD5), Adoption.NO),
        (stored(source_etag=MD5, proof="before"), Adoption.AS_PARTS),
        (stored(source_etag=f'"{MD5.upper()}"', proof="before"), Adoption.AS_PARTS),
        (stored(source_etag=MD5, proof="readback"), Adoption.AFTER_READBACK),
        (stored(source_etag=MD5), Adoption.NO),
        (stored(source_etag=MD5, proof="hope"), Adoption.NO),
        (stored(source_etag=MD5, proof=""), Adoption.NO),
        (stored(source_etag=OTHER, proof="before"), Adoption.NO),
        (stored(size=99, source_etag=MD5, proof="before"), Adoption.NO),
        (stored(proof="before"), Adoption.NO),
        (stored(), Adoption.NO),
    ],
)
def test_an_object_in_the_bucket_is_adopted_only_where_it_is_proven_equal(
    found: StoredObject | None, worth: Adoption
) -> None:
    assert adoption(MD5, 100, found) is worth


@given(
    st.integers(99, 101),
    st.sampled_from([MD5, OTHER, ""]),
    st.sampled_from([MD5, OTHER, ""]),
    st.sampled_from(["", "before"]),
)
def test_nothing_of_another_size_or_without_an_equal_etag_is_ever_adopted(
    size: int, etag: str, source_etag: str, proof: str
) -> None:
    if adoption(MD5, 100, stored(size, etag, source_etag=source_etag, proof=proof)) is not Adoption.NO:
        assert size == 100
        assert MD5 in {etag, source_etag}
