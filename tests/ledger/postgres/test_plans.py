"""The plans of PostgreSQL: every statement prepares, and each that is asked often uses the index that it was written for.

A ledger is filled and analyzed; then each statement is planned once for all values, as the server does after some executions,
in a session with the program's own settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.rows import dict_row

from polyb2.ledger.postgres.connection import address_of
from polyb2.ledger.postgres.open import load_migrations
from polyb2.ledger.postgres.transaction import Connection
from polyb2.ledger.sql.loader import load_statements
from tests.postgres import PostgresServer

FILES = 30_000
FILL = Path(__file__).with_name("filled.sql")
STATEMENTS = load_statements("postgres")
LARGE = "files|revisions|attempts|uploads|parts"
WALKED = {"has_obligations"} | {name for name in STATEMENTS if name.startswith("check_")}
"""They stop at the first row, or are to read everything."""
SMALL = {"files_pending", "files_held", "files_waiting", "uploads_abandoned", "attempts_failed"}
"""Indexes of few rows, in an order that a statement takes the first of."""
NUMBERS = frozenset(
    {"now_ms", "backoff_max_ms", "kept_ms", "window_ms", "keep", "attempt", "length", "charged", "fresh"}
)
"""Parameters that are reckoned with, so that their type does not follow from a column."""
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")


@pytest.fixture(scope="module")
def session(server: PostgresServer) -> Iterator[Connection]:
    """A session of the program on a filled ledger."""
    name = server.new_database()
    conninfo = address_of(server.url(name), writes=True).conninfo
    with Connection.connect(conninfo, autocommit=True, row_factory=dict_row) as found:
        for script in load_migrations():
            found.execute(script)
        found.look_at_pooling()
        found.execute(FILL.read_text(encoding="utf-8").replace(":files", str(FILES)))
        found.execute("SET plan_cache_mode = force_generic_plan")
        yield found
    server.drop_database(name)


def plan_of(session: Connection, name: str) -> str:
    found = STATEMENTS[name]
    names = list(dict.fromkeys(_PARAMETER.findall(found.sql)))
    sql = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", found.sql.rstrip(";"))
    types = ", ".join("bigint" if given in NUMBERS else "unknown" for given in names)
    session.execute(f"PREPARE planned {f'({types})' if types else ''} AS {sql}")
    values = ", ".join("NULL" for _ in names)
    rows = session.execute(f"EXPLAIN (COSTS OFF) EXECUTE planned {f'({values})' if values else ''}").fetchall()
    session.execute("DEALLOCATE planned")
    return "\n".join(row["QUERY PLAN"] for row in rows)


def walks(plan: str) -> list[str]:
    """The scans of a large table that have no condition on an index."""
    lines = plan.splitlines()
    found = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        scan = re.search(rf"(?:Seq Scan|Scan(?: Backward)? using (\w+)) on (?:{LARGE})\b", line)
        if scan and "Index Cond" not in below and scan[1] not in SMALL:
            found.append(line.strip())
    return found


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in WALKED])
def test_no_statement_walks_a_large_table(session: Connection, name: str) -> None:
    plan = plan_of(session, name)
    assert walks(plan) == [], plan


def test_what_reads_everything_prepares(session: Connection) -> None:
    assert all(plan_of(session, name) for name in WALKED)


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("claim_best", ["files_pending", "files_waiting", "files_held"]),
        ("claim_fair", ["files_pending_dataset", "files_waiting_dataset", "turns_pkey"]),
        ("claim_take", ["files_pkey"]),
        ("worker_live", ["workers_pkey", "turns_pkey"]),
        ("worker_renew", ["workers_pkey"]),
        ("fence", ["files_pkey", "workers_pkey", "attempts_pkey"]),
        ("settle_complete", ["files_pkey"]),
        ("settle_failed", ["files_pkey"]),
        ("note_mirrored", ["files_pkey"]),
        ("files_adopt", ["files_pkey"]),
        ("revisions_mirrored", ["revisions_pkey"]),
        ("attempts_completed", ["attempts_pkey"]),
        ("attempts_before", ["attempts_pkey"]),
        ("attempts_released", ["files_held", "attempts_pkey"]),
        ("uploads_done", ["uploads_live"]),
        ("upload_live", ["uploads_live"]),
        ("upload_published", ["uploads_file"]),
        ("upload_owned", ["uploads_upload_id_key"]),
        ("uploads_abandon", ["uploads_live"]),
        ("uploads_abandoned", ["uploads_abandoned"]),
        ("uploads_abandoned_of", ["uploads_file"]),
        ("uploads_abandon_waiting", ["uploads_live", "files_pkey"]),
        ("parts_of", ["parts_pkey"]),
        ("release_worker", ["files_held"]),
        ("workers_prune", ["files_held"]),
        ("queue_waiting", ["files_waiting"]),
        ("queue_pending", ["files_pending"]),
        ("queue_held", ["files_held"]),
        ("in_flight", ["files_held"]),
        ("waiting_since", ["files_queued"]),
        ("last_errors", ["attempts_failed", "files_pkey"]),
        ("known_by_keys", ["files_key_key"]),
        ("known_between", ["files_key_key"]),
        ("unfinished_between", ["files_key_key"]),
        ("files_page", ["files_key_key"]),
        ("files_by_keys", ["files_key_key"]),
        ("files_of_status", ["files_status"]),
        ("file_ids_page", ["files_key_key"]),
        ("file_ids_of_status", ["files_status"]),
        ("files_of_days", ["files_key_key"]),
        ("files_first", ["files_key_key"]),
        ("files_last", ["files_key_key"]),
        ("files_requeue", ["files_pkey"]),
        ("files_restore", ["files_pkey"]),
        ("files_delete", ["files_pkey"]),
        ("listings_of", ["listings_pkey"]),
        ("held_of", ["held_pkey"]),
        ("held_between", ["held_pkey"]),
        ("held_days", ["held_pkey"]),
        ("held_delete", ["held_pkey"]),
        ("throughput_prune", ["throughput_pkey"]),
    ],
)
def test_a_hot_statement_uses_its_index(session: Connection, name: str, indexes: list[str]) -> None:
    plan = plan_of(session, name)
    assert [index for index in indexes if not re.search(rf"using {index} on", plan)] == [], plan


@pytest.mark.parametrize(
    "name",
    ["queue_pending", "known_between", "unfinished_between", "files_page", "files_of_status", "file_ids_of_status"],
)
def test_a_page_is_read_in_the_order_of_its_index(session: Connection, name: str) -> None:
    assert "Sort" not in plan_of(session, name)


def test_status_counts_read_no_file(session: Connection) -> None:
    assert not re.search(r"on files\b", plan_of(session, "counts"))


def test_each_index_serves_a_statement(session: Connection) -> None:
    rows = session.execute("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'polyb2'").fetchall()
    made = {row["indexname"] for row in rows if "UNIQUE" not in row["indexdef"]}
    plans = "\n".join(plan_of(session, name) for name in STATEMENTS)
    assert {name for name in made if not re.search(rf"\b{name}\b", plans)} == set()
