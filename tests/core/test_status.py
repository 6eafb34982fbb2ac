"""The transition table of the code, the CHECKs and the trigger of the SQL and the diagram agree."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path

import pytest

from polyb2.core.status import FAILED, PARKED, TRANSITIONS, WAITING, Event, Status, allowed_pairs
from polyb2.ledger.sqlite.open import load_migrations

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
CHANGES = list(permutations(Status, 2))


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript("".join(load_migrations()))
        yield connection


def columns(status: str) -> dict[str, object]:
    """The columns that the CHECKs require of a row in a status."""
    return {
        "status": status,
        "worker": 1 if status == "processing" else None,
        "next_attempt_ms": 1 if status in {"failed_download", "failed_upload"} else None,
        "mirrored_revision": 1 if status == "completed" else None,
        "verification": "parts" if status == "completed" else None,
    }


def insert(database: sqlite3.Connection, **row: object) -> None:
    given = {
        "key": "k",
        "dataset": "a/b",
        "date": "2024-01-02",
        "size": 1,
        "source_etag": "e",
        "source_last_modified_ms": 0,
        "dest_key": "k",
        "discovered_at_ms": 0,
        "queued_at_ms": 0,
    } | row
    names, marks = ", ".join(given), ", ".join(f":{name}" for name in given)
    database.executescript("DELETE FROM files; DELETE FROM revisions")
    database.execute(f"INSERT INTO files ({names}) VALUES ({marks})", given)


def test_the_statuses_are_the_seven_of_the_contract() -> None:
    words = "pending processing completed failed_download failed_upload permanent_failure not_entitled"
    assert [str(status) for status in Status] == words.split()


@pytest.mark.parametrize(("old", "new"), CHANGES, ids=str)
def test_the_ledger_allows_exactly_the_changes_of_the_table(
    database: sqlite3.Connection, old: Status, new: Status
) -> None:
    insert(database, **columns(old))
    change = ", ".join(f"{name} = :{name}" for name in columns(new))
    if (old, new) in allowed_pairs():
        assert database.execute(f"UPDATE files SET {change}", columns(new)).rowcount == 1
    else:
        with pytest.raises(sqlite3.IntegrityError, match="no such transition"):
            database.execute(f"UPDATE files SET {change}", columns(new))


@pytest.mark.parametrize(
    "row",
    [
        {"status": "downloaded"},
        columns("processing") | {"worker": None},
        columns("pending") | {"worker": 1},
        columns("failed_upload") | {"next_attempt_ms": None},
        columns("pending") | {"next_attempt_ms": 1},
        columns("completed") | {"verification": None},
        pytest.param(columns("completed") | {"mirrored_revision": None}),
        columns("completed") | {"mirrored_revision": 2},
        columns("completed") | {"verification": "hope"},
    ],
    ids=str,
)
def test_a_row_that_contradicts_its_status_is_refused(database: sqlite3.Connection, row: dict[str, object]) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"CHECK|NOT NULL"):
        insert(database, **row)


def test_the_diagram_shows_exactly_the_changes_of_the_table() -> None:
    arrows = re.findall(r"^\s*(\w+)\s*-->\s*(\w+)", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    statuses = set(Status)
    assert {(old, new) for old, new in arrows if {old, new} <= statuses and old != new} == allowed_pairs()


def test_every_event_has_a_transition_and_every_status_a_way_in_and_out() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert {old for old, _ in allowed_pairs()} == set(Status)
    assert {new for _, new in allowed_pairs()} == set(Status)


@pytest.mark.parametrize(
    ("event", "old", "allowed"),
    [
        (Event.CLAIM, WAITING | {Status.PROCESSING}, True),
        (Event.CLAIM, PARKED | {Status.COMPLETED}, False),
        (Event.REVISE, PARKED | WAITING | {Status.COMPLETED}, True),
        (Event.REVISE, {Status.PROCESSING}, False),
        (Event.RETRY, FAILED, True),
        (Event.RETRY, {Status.PROCESSING}, False),
        (Event.GONE, {Status.COMPLETED, Status.PROCESSING}, False),
        (Event.GONE, WAITING, True),
        (Event.ADOPT, {Status.PROCESSING, Status.COMPLETED}, False),
    ],
)
def test_an_event_starts_from_these_statuses(event: Event, old: set[Status], allowed: bool) -> None:
    assert {status in TRANSITIONS[event][0] for status in old} == {allowed}


@pytest.mark.parametrize("event", [Event.COMPLETE, Event.FAIL_DOWNLOAD, Event.FAIL_UPLOAD, Event.PARK, Event.REFUSE])
def test_only_a_claimed_file_is_settled(event: Event) -> None:
    assert TRANSITIONS[event][0] == {Status.PROCESSING}
