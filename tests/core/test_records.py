"""The records between the layers: immutable, and their words the same as those of the SQL."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, is_dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

import pytest

from polyb2.core import records
from polyb2.core.integrity import Verification
from polyb2.core.records import Claim, PartProof, Revision, UploadState

SCHEMA = (files("polyb2.ledger.sqlite") / "migrations" / "0001_ledger.sql").read_text(encoding="utf-8")
RECORDS: list[Any] = [
    member for member in vars(records).values() if is_dataclass(member) and member.__module__ == records.__name__
]
CLAIM = Claim(1, "k", "a/b", Revision(1, "e", 1, 0), 1, 0, 1, "token")


@pytest.mark.parametrize(
    ("column", "words"), [("state", UploadState), ("proof", PartProof), ("verification", Verification)]
)
def test_the_ledger_takes_exactly_these_words(column: str, words: type[StrEnum]) -> None:
    check = re.search(rf"CHECK \({column} IN \(([^)]*)\)\)", SCHEMA)
    assert check is not None
    assert re.findall(r"'(\w+)'", check[1]) == [str(word) for word in words]


def test_every_proof_of_an_upload_is_a_verification_of_a_file() -> None:
    assert {str(proof) for proof in PartProof} == {str(word) for word in Verification}


def test_every_record_is_immutable_and_has_no_room_for_more() -> None:
    assert len(RECORDS) > 8
    assert [
        record for record in RECORDS if not record.__dataclass_params__.frozen or "__slots__" not in vars(record)
    ] == []


def test_a_claim_cannot_be_edited_after_the_fact() -> None:
    with pytest.raises(FrozenInstanceError):
        CLAIM.attempt = 2  # type: ignore[misc]


@pytest.mark.parametrize(("attempt", "first"), [(1, True), (2, False), (17, False)])
def test_only_the_first_attempt_may_send_without_looking(attempt: int, first: bool) -> None:
    assert Claim(1, "k", "a/b", Revision(1, "e", 1, 0), attempt, 0, 1, "token").is_first is first
