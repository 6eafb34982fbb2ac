"""The schema of a ledger in PostgreSQL: made once by many first starts, brought up to date, refused if it is not for us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from polyb2.core.errors import UsageError
from polyb2.ledger.open import open_ledger, schema_version
from polyb2.ledger.postgres import open as opening
from polyb2.ledger.postgres.open import FIRST_VERSION, load_migrations, newest_version
from tests.ledger.conftest import LEASE_MS
from tests.postgres import PostgresServer

NEXT = "ALTER TABLE polyb2.files ADD COLUMN later text"
BREAKING = "ALTER TABLE polyb2.files ADD COLUMN later text; UPDATE polyb2.ledger SET writers = {}"


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    name = server.new_database()
    yield name
    server.drop_database(name)


@pytest.fixture
def url(server: PostgresServer, database: str) -> str:
    return server.url(database)


async def test_of_ten_first_starts_at_once_one_makes_the_schema(url: str) -> None:
    ledgers = await asyncio.gather(*(open_ledger(url) for _ in range(10)))
    workers = await asyncio.gather(*(ledger.register(f"w{n}", LEASE_MS) for n, ledger in enumerate(ledgers)))
    assert len({worker.row for worker in workers}) == 10
    assert await schema_version(url) == newest_version()
    await asyncio.gather(*(ledger.close() for ledger in ledgers))


async def test_an_additive_step_lets_the_program_before_go_on_writing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await open_ledger(url)
    with monkeypatch.context() as newer:
        newer.setattr(opening, "load_migrations", lambda: [*load_migrations(), NEXT])
        assert await schema_version(url) == newest_version() - 1
        with pytest.raises(UsageError, match=r"older polyb2.*: run polyb2 ledger migrate"):
            await open_ledger(url, read_only=True)
        await (await open_ledger(url)).close()
        await (await open_ledger(url, read_only=True)).close()
        assert await schema_version(url) == newest_version()
    after = await open_ledger(url)
    for ledger in (before, after):
        await ledger.register("of the old program", LEASE_MS)
        await ledger.close()
    assert await schema_version(url) == newest_version() + 1


async def test_a_step_that_is_not_for_the_program_before_is_refused_by_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        step = BREAKING.format(FIRST_VERSION + len(load_migrations()))
        newer.setattr(opening, "load_migrations", lambda: [*load_migrations(), step])
        await (await open_ledger(url)).close()
    for read_only in (True, False):
        with pytest.raises(UsageError, match=r"a newer polyb2 \(schema \d+, this one knows \d+\): upgrade polyb2"):
            await open_ledger(url, read_only=read_only)


@pytest.mark.parametrize(
    "theirs", ["CREATE TABLE polyb2.orders (id int)", "CREATE TABLE polyb2.ledger (account text, amount numeric)"]
)
async def test_the_schema_of_another_program_is_left_alone(
    server: PostgresServer, database: str, url: str, theirs: str
) -> None:
    with closing(server.connect(database)) as connection:
        connection.execute(f"CREATE SCHEMA polyb2; {theirs}")
        for options in (True, False):
            with pytest.raises(UsageError, match=r"the schema polyb2 of .* belongs to another program"):
                await open_ledger(url, read_only=options)
        assert connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'polyb2'").rowcount == 1


async def test_a_schema_that_was_made_empty_for_us_is_used(server: PostgresServer, database: str, url: str) -> None:
    with closing(server.connect(database)) as connection:
        connection.execute("CREATE SCHEMA polyb2")
    ledger = await open_ledger(url)
    assert ledger.exists
    await ledger.close()
