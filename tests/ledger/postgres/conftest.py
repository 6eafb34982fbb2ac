"""Databases without a ledger, and ledgers of several hosts in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """The name of an empty database."""
    name = server.new_database()
    yield name
    server.drop_database(name)
