"""The schema has the tables and columns of SQLite's, but for what is named here."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from polyb2.ledger.postgres.open import load_migrations
from polyb2.ledger.sqlite.open import connect_to_nothing
from tests.postgres import PostgresServer

ONLY_SQLITE = {("workers", "boot_id"), ("workers", "lease_mono_ms")}
"""The server's clock judges leases."""
ONLY_POSTGRES = {("counts", "writer")}
"""Each server process counts in rows of its own."""
OWN_TABLES = {"ledger", "writers"}


def of_sqlite(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    query = (
        "SELECT m.name AS of_table, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
    )
    return {(row["of_table"], row["name"]) for row in connection.execute(query)}


def test_both_stores_have_the_same_columns(server: PostgresServer) -> None:
    database = server.new_database()
    with closing(server.connect(database)) as connection:
        for script in load_migrations():
            connection.execute(script)
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'polyb2'"
        found = {(row["table_name"], row["column_name"]) for row in connection.execute(query)}
    server.drop_database(database)
    found = {(table, column) for table, column in found if table not in OWN_TABLES}
    with closing(connect_to_nothing()) as empty:
        assert found - ONLY_POSTGRES == of_sqlite(empty) - ONLY_SQLITE
