"""What the user of ``DATABASE_URL`` needs: no more than a schema of its own."""

from __future__ import annotations

from contextlib import closing

from polyb2.ledger.open import open_ledger
from tests.postgres import PostgresServer


async def test_the_owner_of_the_schema_needs_no_right_to_create_another(server: PostgresServer) -> None:
    database = server.new_database()
    with closing(server.connect(database)) as connection:
        connection.execute("CREATE USER owner_of_polyb2")
        connection.execute("CREATE SCHEMA polyb2 AUTHORIZATION owner_of_polyb2")
        may = "SELECT has_database_privilege('owner_of_polyb2', current_database(), 'CREATE') AS may"
        assert connection.execute(may).fetchone() == {"may": False}
    ledger = await open_ledger(server.url(database).replace("//polyb2@", "//owner_of_polyb2@"))
    checks = {check.name: check.level for check in await ledger.examine()}
    await ledger.close()
    assert checks["rights"] == "pass"
    with closing(server.connect()) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
        connection.execute("DROP USER owner_of_polyb2")
