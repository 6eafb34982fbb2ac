"""The schema and the statements: all prepare, the hot ones by their index, and the transitions are those of the core."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from polyb2.core.parts import OBJECT_BYTES_MAX
from polyb2.core.status import Status, allowed_pairs
from polyb2.ledger.sql.loader import load_statements
from polyb2.ledger.sqlite.open import load_migrations

ARCHITECTURE = Path(__file__).parents[3] / "ARCHITECTURE.md"
BY_KEY, BY_ROW = "sqlite_autoindex_files_1", "INTEGER PRIMARY KEY"
PARTIAL = r"files_pending|files_pending_dataset|files_waiting|files_held|files_queued"


class Anything(dict[str, object]):
    """Gives every parameter a value."""

    def __missing__(self, name: str) -> object:
        return 1


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in load_migrations():
            connection.executescript(script)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("INSERT INTO workers VALUES (1, 'w', 'h', 'v', 0, 'boot', 0, 1, 0, 0, NULL)")
        yield connection


def plan_of(schema: sqlite3.Connection, name: str) -> str:
    rows = schema.execute(f"EXPLAIN QUERY PLAN {load_statements('sqlite')[name].sql}", Anything()).fetchall()
    return "\n".join(row[3] for row in rows)


@pytest.mark.parametrize("name", load_statements("sqlite"))
def test_every_statement_prepares(schema: sqlite3.Connection, name: str) -> None:
    assert schema.execute(f"EXPLAIN {load_statements('sqlite')[name].sql}", Anything()).fetchall()


# has_obligations stops at the first row; the foreign key of worker_register is looked at only if one is violated already;
# `ledger check` reads everything.
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in load_statements("sqlite")
        if name not in {"has_obligations", "worker_register"} and not name.startswith("check_")
    ],
)
def test_no_statement_scans_all_files(schema: sqlite3.Connection, name: str) -> None:
    scans = re.findall(rf"SCAN (?:files|f)\b(?! USING (?:COVERING )?INDEX (?:{PARTIAL})\b).*", plan_of(schema, name))
    assert scans == []


def test_each_index_serves_a_statement(schema: sqlite3.Connection) -> None:
    made = {row[0] for row in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}
    plans = "\n".join(plan_of(schema, name) for name in load_statements("sqlite"))
    assert {name for name in made if not re.search(rf"\b{name}\b", plans)} == set()


def test_each_column_is_read_by_a_statement(schema: sqlite3.Connection) -> None:
    names = [row[0] for row in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    made = {(table, row[1]) for table in names for row in schema.execute(f"PRAGMA table_info({table})")}
    read = set()

    def note(action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add((table, column))
        return sqlite3.SQLITE_OK

    schema.set_authorizer(note)
    for name in load_statements("sqlite"):
        plan_of(schema, name)
    assert {(table, column) for table, column in made if table != "sqlite_sequence"} - read == set()


def test_the_largest_size_that_is_counted_is_the_cores() -> None:
    numbers = re.findall(r"size <= (\d+)", "".join(load_migrations()))
    assert numbers
    assert set(map(int, numbers)) == {OBJECT_BYTES_MAX}


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("claim_best", ["files_pending", "files_waiting", "files_held"]),
        ("claim_fair", ["files_pending_dataset"]),
        ("claim_take", [BY_ROW]),
        ("worker_live", [r"turns USING PRIMARY KEY \(worker=\?\)"]),
        ("settle_complete", [BY_ROW]),
        ("note_mirrored", [BY_ROW]),
        ("files_adopt", [BY_ROW]),
        ("revisions_mirrored", [r"revisions USING PRIMARY KEY \(file_id=\? AND revision=\?\)"]),
        ("attempts_completed", [r"attempts USING PRIMARY KEY \(file_id=\? AND attempt=\?\)"]),
        ("uploads_done", ["uploads_live"]),
        ("worker_renew", [BY_ROW]),
        ("release_worker", ["files_held"]),
        ("fence", ["files|f USING INTEGER PRIMARY KEY", "workers|w USING INTEGER PRIMARY KEY"]),
        ("queue_waiting", ["files_waiting"]),
        ("queue_pending", ["files_pending"]),
        ("queue_held", ["files_held"]),
        ("in_flight", ["files_held"]),
        ("waiting_since", [r"files_queued \(dataset=\?\)"]),
        ("last_errors", ["attempts_failed", "f USING INTEGER PRIMARY KEY"]),
        ("files_of_days", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("files_first", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("files_last", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("listings_of", [r"listings USING PRIMARY KEY \(dataset=\?\)"]),
        ("parts_of", [r"parts USING PRIMARY KEY \(upload=\?\)"]),
        ("upload_live", ["uploads_live"]),
        ("upload_owned", ["sqlite_autoindex_uploads_1"]),
        ("uploads_abandon", ["uploads_live"]),
        ("uploads_abandoned", ["uploads_abandoned"]),
        ("uploads_abandoned_of", ["uploads_file"]),
        ("attempts_before", [r"attempts USING PRIMARY KEY \(file_id=\? AND attempt<\?\)"]),
        ("known_by_keys", [BY_KEY]),
        ("known_between", [BY_KEY]),
        ("unfinished_between", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("files_page", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("file_ids_page", [f"{BY_KEY} \\(key>\\? AND key<\\?\\)"]),
        ("files_of_status", [r"files_status \(status=\? AND key>\? AND key<\?\)"]),
        ("file_ids_of_status", [r"COVERING INDEX files_status \(status=\? AND key>\? AND key<\?\)"]),
        ("files_by_keys", [BY_KEY]),
        ("files_requeue", [BY_ROW]),
        ("files_restore", [BY_ROW]),
        ("files_delete", [BY_ROW]),
        ("attempts_disown", [r"attempts USING PRIMARY KEY \(file_id=\?\)"]),
        ("revisions_after", [r"revisions USING PRIMARY KEY \(file_id=\?\)"]),
        ("uploads_abandon_waiting", ["uploads_live"]),
        ("held_of", [r"held USING PRIMARY KEY \(key=\?\)"]),
        ("held_between", [r"held USING PRIMARY KEY \(key>\? AND key<\?\)"]),
        ("held_days", [r"held USING PRIMARY KEY \(key>\? AND key<\?\)"]),
        ("held_delete", [r"held USING PRIMARY KEY \(key=\?\)"]),
        ("throughput_prune", [r"throughput USING PRIMARY KEY"]),
    ],
)
def test_a_hot_statement_uses_its_index(schema: sqlite3.Connection, name: str, indexes: list[str]) -> None:
    plan = plan_of(schema, name)
    assert not [index for index in indexes if not re.search(rf"(?:{index})\b|{index}$", plan, re.MULTILINE)], plan


@pytest.mark.parametrize(
    ("name", "sorts"),
    [
        ("claim_best", 1),
        ("claim_fair", 1),
        ("queue_pending", 0),
        ("known_between", 0),
        ("unfinished_between", 0),
        ("files_page", 0),
        ("files_of_status", 0),
        ("file_ids_of_status", 0),
        ("counts", 0),
    ],
)
def test_only_the_few_candidates_of_a_claim_are_sorted(schema: sqlite3.Connection, name: str, sorts: int) -> None:
    assert plan_of(schema, name).count("TEMP B-TREE") == sorts


def test_the_index_of_statuses_serves_what_asks_for_one_status_and_nothing_else(schema: sqlite3.Connection) -> None:
    served = {name for name in load_statements("sqlite") if re.search(r"\bfiles_status\b", plan_of(schema, name))}
    assert served == {"files_of_status", "file_ids_of_status"}


def test_status_counts_read_no_file(schema: sqlite3.Connection) -> None:
    assert not re.search(r"\bfiles\b", plan_of(schema, "counts"))


def facts_of(status: Status) -> dict[str, object]:
    """The columns that go with a status."""
    return {
        "status": status,
        "worker": 1 if status is Status.PROCESSING else None,
        "next_attempt_ms": 1 if status in {Status.FAILED_DOWNLOAD, Status.FAILED_UPLOAD} else None,
        "verification": "etag",
        "mirrored_revision": 1,
    }


def put(schema: sqlite3.Connection, **facts: object) -> None:
    fixed = {"key": "k", "dataset": "d", "date": "2024-01-02", "size": 1, "source_etag": "e", "dest_key": "k"}
    row = {**fixed, "source_last_modified_ms": 0, "discovered_at_ms": 0, "queued_at_ms": 0, **facts}
    marks = ", ".join(f":{name}" for name in row)
    schema.execute(f"INSERT INTO files ({', '.join(row)}) VALUES ({marks})", row)


def move(schema: sqlite3.Connection, **facts: object) -> None:
    schema.execute(f"UPDATE files SET {', '.join(f'{name} = :{name}' for name in facts)}", facts)


@pytest.mark.parametrize(("old", "new"), list(product(Status, Status)))
def test_sql_allows_the_transitions_of_the_core_and_no_others(
    schema: sqlite3.Connection, old: Status, new: Status
) -> None:
    put(schema, **facts_of(old))
    if old is new or (old, new) in allowed_pairs():
        move(schema, **facts_of(new))
    else:
        with pytest.raises(sqlite3.IntegrityError, match="no such transition"):
            move(schema, **facts_of(new))
    expected = new if old is new or (old, new) in allowed_pairs() else old
    assert schema.execute("SELECT status FROM files").fetchall() == [(expected,)]
    counted = schema.execute("SELECT status, files FROM counts WHERE files").fetchall()
    assert counted == [(expected, 1)]


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (Status.PROCESSING, {"worker": None}),
        (Status.PROCESSING, {"worker": 2}),
        (Status.PENDING, {"worker": 1}),
        (Status.PENDING, {"next_attempt_ms": 1}),
        (Status.FAILED_DOWNLOAD, {"next_attempt_ms": None}),
        (Status.FAILED_UPLOAD, {"next_attempt_ms": None}),
        (Status.PERMANENT_FAILURE, {"next_attempt_ms": 1}),
        (Status.COMPLETED, {"mirrored_revision": 2}),
        (Status.COMPLETED, {"verification": None}),
        (Status.COMPLETED, {"verification": "hope"}),
        (Status.PENDING, {"status": "downloaded"}),
        (Status.PENDING, {"size": -1}),
        (Status.PENDING, {"size": "many"}),
        (Status.PENDING, {"revision": 0}),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    schema: sqlite3.Connection, status: Status, wrong: dict[str, object]
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        put(schema, **{**facts_of(status), **wrong})


def test_the_diagram_shows_the_transitions_of_the_core() -> None:
    lines = re.findall(r"^ +(\[\*\]|\w+) --> (\w+) : \S", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    starts = {new for old, new in lines if old == "[*]"}
    drawn = {(Status(old), Status(new)) for old, new in lines if old not in {"[*]", new}}
    assert starts == {"pending"}
    assert drawn == allowed_pairs()
