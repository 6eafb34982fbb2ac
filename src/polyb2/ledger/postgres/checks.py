"""The lines of ``doctor`` on a PostgreSQL server and what else happens in its database."""

from __future__ import annotations

import time
from typing import Any

from polyb2.core.units import format_duration
from polyb2.ledger.postgres.errors import GRANTS
from polyb2.ledger.postgres.transaction import Connection
from polyb2.ledger.rows import Check, Level

CLOCK_OFF_S = 5.0
OLD_TRANSACTION_S = 300.0
CONNECTIONS_A_PROCESS = 3
CONNECTIONS_LEFT_MIN = 10
DEAD_ROWS_MIN = 50_000
_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('fsync') AS fsync, current_setting('autovacuum') AS autovacuum,
       current_setting('max_connections')::int AS connections_max,
       current_setting('superuser_reserved_connections')::int AS connections_reserved,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       extract(epoch FROM clock_timestamp())::float AS clock_s, pg_is_in_recovery() AS is_standby
"""
_RIGHTS = """
SELECT has_table_privilege('polyb2.files', 'SELECT') AND has_table_privilege('polyb2.files', 'INSERT')
   AND has_table_privilege('polyb2.files', 'UPDATE') AND has_table_privilege('polyb2.files', 'DELETE') AS may
"""
_OLD = """
SELECT application_name, extract(epoch FROM clock_timestamp() - min(xact_start))::float AS age_s FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
GROUP BY application_name ORDER BY age_s DESC LIMIT 1
"""
_DEAD = """
SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE schemaname = 'polyb2' ORDER BY n_dead_tup DESC LIMIT 1
"""
_UNFIT = """
SELECT 'index ' || i.indexrelid::regclass AS name FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
WHERE c.relnamespace = to_regnamespace('polyb2') AND NOT (i.indisvalid AND i.indisready)
UNION ALL
SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = to_regnamespace('polyb2') AND NOT convalidated
UNION ALL
SELECT 'trigger ' || t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace('polyb2') AND t.tgenabled NOT IN ('O', 'A')
ORDER BY name
"""


def check_schema(connection: Connection) -> list[Check]:
    """The check of what the schema leans on: indexes that are valid, constraints that hold, triggers that fire."""
    unfit = [str(row["name"]) for row in connection.execute(_UNFIT).fetchall()]
    if not unfit:
        return [Check("schema", Level.PASS, "all indexes and constraints are valid, all triggers are on")]
    advice = "REINDEX the index, VALIDATE the constraint, or ENABLE the trigger; then run polyb2 ledger check again"
    return [Check("schema", Level.FAIL, f"not valid or not on: {', '.join(unfit)}", advice)]


def check_server(connection: Connection, *, exists: bool = True) -> list[Check]:
    """The checks of a ledger that was opened, or of the server where there is none yet."""
    began_s = time.time()
    row = _first(connection, _SERVER)
    asked_s = (began_s + time.time()) / 2
    return [
        _check_version(connection, row),
        _check_tls(connection),
        *([_check_rights(connection)] if exists else ()),
        _check_pooler(connection),
        _check_clock(row["clock_s"] - asked_s),
        _check_durability(row),
        _check_connections(row),
        _check_old_transactions(connection),
        _check_vacuum(connection, row),
    ]


def _check_version(connection: Connection, row: dict[str, Any]) -> Check:
    standby = ", a standby" if row["is_standby"] else ""
    return Check("postgresql", Level.PASS, f"PostgreSQL {row['version']}{standby}, database {connection.info.dbname}")


def _check_tls(connection: Connection) -> Check:
    mode = connection.info.get_parameters().get("sslmode", "prefer")
    if connection.info.host.startswith("/") or connection.info.host in {"localhost", "127.0.0.1", "::1"}:
        return Check("tls", Level.PASS, "the server is on this host")
    if mode in {"verify-full", "verify-ca"} and connection.pgconn.ssl_in_use:
        return Check("tls", Level.PASS, f"encrypted, and the server is verified (sslmode={mode})")
    words = "encrypted, but the server is not verified" if connection.pgconn.ssl_in_use else "not encrypted"
    advice = "add sslmode=verify-full&sslrootcert=system to DATABASE_URL: libpq's default verifies nothing"
    return Check("tls", Level.WARN, f"{words} (sslmode={mode})", advice)


def _check_rights(connection: Connection) -> Check:
    if _first(connection, _RIGHTS)["may"]:
        return Check("rights", Level.PASS, "the tables of the schema polyb2 can be read and written")
    return Check("rights", Level.FAIL, "the user may not read and write the tables of the schema polyb2", GRANTS)


def _check_pooler(connection: Connection) -> Check:
    if connection.is_pooled:
        return Check(
            "pooler", Level.PASS, "a pooler is in between; polyb2 keeps nothing in a session, so any mode will do"
        )
    return Check("pooler", Level.PASS, "none in between")


def _check_clock(offset_s: float) -> Check:
    words = f"the server's is {abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} this host's"
    if abs(offset_s) > CLOCK_OFF_S:
        advice = "set both by NTP; leases go by the server's clock alone, but times that are shown will differ"
        return Check("server_clock", Level.WARN, words, advice)
    return Check("server_clock", Level.PASS, words)


def _check_durability(row: dict[str, Any]) -> Check:
    if row["fsync"] != "on":
        return Check(
            "durability",
            Level.WARN,
            "fsync is off: a crash of the server's host may destroy the database",
            "turn it on",
        )
    if row["synchronous_commit"] == "off":
        words = "synchronous_commit is off: a crash of the server loses the last commits"
        return Check("durability", Level.WARN, words, "turn it on; polyb2 finds lost commits again, by work done twice")
    return Check("durability", Level.PASS, f"fsync on, synchronous_commit {row['synchronous_commit']}")


def _check_connections(row: dict[str, Any]) -> Check:
    left = row["connections_max"] - row["connections_reserved"] - row["connections"]
    words = f"{left} of {row['connections_max']} are free; a process of polyb2 takes up to {CONNECTIONS_A_PROCESS}"
    if left < CONNECTIONS_LEFT_MIN:
        return Check("connections", Level.WARN, words, "raise max_connections, or put a pooler in between")
    return Check("connections", Level.PASS, words)


def _check_old_transactions(connection: Connection) -> Check:
    row = connection.execute(_OLD).fetchone()
    if row is None or row["age_s"] < OLD_TRANSACTION_S:
        return Check("old_transactions", Level.PASS, f"none older than {format_duration(OLD_TRANSACTION_S)}")
    words = f"one of {row['application_name'] or 'a nameless program'} is open since {format_duration(row['age_s'])}"
    return Check(
        "old_transactions", Level.WARN, words, "end it: as long as it is open, nothing is vacuumed and claims get slow"
    )


def _check_vacuum(connection: Connection, row: dict[str, Any]) -> Check:
    dead = connection.execute(_DEAD).fetchone() or {"relname": "", "n_dead_tup": 0, "n_live_tup": 0}
    words = f"autovacuum {row['autovacuum']}; most dead rows: {dead['n_dead_tup']} in {dead['relname'] or 'no table'}"
    if row["autovacuum"] != "on":
        return Check("vacuum", Level.WARN, words, "turn autovacuum on: the queue gets slow without it")
    if dead["n_dead_tup"] > max(DEAD_ROWS_MIN, dead["n_live_tup"]):
        return Check(
            "vacuum",
            Level.WARN,
            words,
            "look for what holds vacuum back: old transactions, abandoned replication slots",
        )
    return Check("vacuum", Level.PASS, words)


def _first(connection: Connection, query: str) -> dict[str, Any]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    return row
