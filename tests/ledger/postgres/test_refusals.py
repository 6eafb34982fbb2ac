"""What a server can refuse on the first day: one clear line each, the right exit code, and the password in none of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from polyb2.core.errors import LedgerError, UsageError
from polyb2.doctor.checks import Checkup, Notes
from polyb2.doctor.ledger_checks import examine_ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.postgres import checks
from polyb2.ledger.postgres import open as opening
from polyb2.ledger.rows import Level
from tests.conftest import Bench
from tests.postgres import GUARDED, PostgresServer

PASSWORD = "correct-horse-staple"
WRONG = "wrong-horse-battery"
MISSING = "import sys; sys.modules['psycopg'] = None; from polyb2.cli.main import main; main()"


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    name = server.new_database()
    yield name
    server.drop_database(name)


@pytest.fixture
def guarded(server: PostgresServer) -> Iterator[None]:
    """A user with a password."""
    with closing(server.connect()) as connection:
        connection.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
        yield
        connection.execute(f"DROP ROLE {GUARDED}")


def as_guarded(server: PostgresServer, database: str, password: str) -> str:
    return server.url(database).replace("polyb2@", f"{GUARDED}:{password}@", 1)


def never(_error: LedgerError, _waited_s: float) -> bool:
    return False


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("words", [("status",), ("--debug", "status"), ("doctor",)], ids=" ".join)
async def test_a_wrong_password_is_exit_2_and_is_shown_nowhere(
    server: PostgresServer, database: str, bench: Bench, words: tuple[str, ...]
) -> None:
    ended = await bench.cli(*words, DATABASE_URL=as_guarded(server, database, WRONG))
    assert WRONG not in ended.out + ended.err
    assert ended.code == (4 if words == ("doctor",) else 2), ended.err
    assert f'password authentication failed for user "{GUARDED}"' in ended.out + ended.err
    assert "correct user, password and database in DATABASE_URL" in ended.out + ended.err
    if words == ("status",):
        assert len(ended.err.splitlines()) == 1


@pytest.mark.usefixtures("guarded")
async def test_a_user_that_may_make_no_schema_is_told_how_to_get_one(server: PostgresServer, database: str) -> None:
    url = as_guarded(server, database, PASSWORD)
    with pytest.raises(UsageError, match="CREATE SCHEMA polyb2 AUTHORIZATION"):
        await open_ledger(url)
    checkup = Checkup()
    with pytest.raises(Exception, match=r"^$"):
        await examine_ledger(Notes(checkup, "ledger"), url, None, part_etags_are_md5s=None)
    assert checkup.failure is not None
    assert "give the user CREATE on the database" in checkup.failure.found


@pytest.mark.usefixtures("guarded")
async def test_a_user_that_may_only_read_fails_the_check_of_its_rights(server: PostgresServer, database: str) -> None:
    await (await open_ledger(server.url(database))).close()
    with closing(server.connect(database)) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA polyb2 TO {GUARDED}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA polyb2 TO {GUARDED}")
        ledger = await open_ledger(as_guarded(server, database, PASSWORD), read_only=True)
        found = {check.name: check for check in await ledger.examine()}
        await ledger.close()
        connection.execute(f"DROP OWNED BY {GUARDED}")
    assert found["rights"].level is Level.FAIL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://polyb2@/absent?{}", 'database "absent" does not exist; correct user, password and database'),
        ("postgresql://absent@/postgres?{}", 'role "absent" does not exist; correct user, password and database'),
        ("postgresql://u:50%-off-pass@host/db", "DATABASE_URL cannot be read as postgresql://"),
        ("postgresql://u:a/rest-pass@host/db", "DATABASE_URL cannot be read as postgresql://"),
        ("postgresql://u:a@rest-pass@host/db", "DATABASE_URL cannot be read as postgresql://"),
        ("postgresql://u@host/db?unknown-pass=1", "DATABASE_URL cannot be read as postgresql://"),
    ],
)
async def test_a_url_that_leads_nowhere_is_a_mistake_of_the_settings(
    server: PostgresServer, url: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        await open_ledger(url.format(f"host={server.folder}&port={server.port}"), retry=never)
    assert "pass=" not in str(raised.value)
    assert "-pass" not in str(raised.value)


async def test_a_server_that_takes_no_writes_is_said_to_be_one(server: PostgresServer, database: str) -> None:
    await (await open_ledger(server.url(database))).close()
    with closing(server.connect()) as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with pytest.raises(
        LedgerError, match="session is read-only; it is a standby, or read-only by its settings"
    ) as raised:
        await open_ledger(server.url(database), retry=never)
    assert raised.value.may_pass
    reader = await open_ledger(server.url(database), read_only=True, retry=never)
    assert reader.exists
    await reader.close()


async def test_a_server_that_is_too_old_is_refused(
    server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OLDEST_SERVER", 99)
    with pytest.raises(UsageError, match=r"is PostgreSQL \d+; polyb2 needs 99 or newer"):
        await open_ledger(server.url(database))


async def test_the_extra_that_is_missing_is_named(bench: Bench) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MISSING,
        "status",
        env=bench.environment(DATABASE_URL="postgresql://h/d"),
        stderr=-1,
        stdout=-1,
    )
    _, err = await process.communicate()
    (line,) = err.decode().splitlines()
    assert process.returncode == 2
    assert line.startswith("polyb2: a ledger in PostgreSQL needs psycopg, of the extra polyb2[postgres]: ")


async def test_doctor_finds_a_place_where_a_ledger_can_be_made(server: PostgresServer, database: str) -> None:
    checkup = Checkup()
    await examine_ledger(Notes(checkup, "ledger"), server.url(database), None, part_etags_are_md5s=None)
    found = {check.name: check for check in checkup.checks}
    assert found["ledger.open"].found == f"postgresql://{server.folder}/{database} is not there yet, and can be made"
    assert found["ledger.postgresql"].level is Level.PASS
    with closing(server.connect(database)) as connection:
        assert not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'polyb2'").fetchall()


async def test_a_check_is_doubtful_where_it_should_be(
    server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await open_ledger(server.url(database))
    found = {check.name: check.level for check in await ledger.examine()}
    assert list(found) == [
        *("postgresql", "tls", "rights", "pooler", "server_clock", "durability", "connections", "old_transactions"),
        "vacuum",
    ]
    assert {name for name, level in found.items() if level is not Level.PASS} == {"durability"}, (
        "the tests run without fsync"
    )
    monkeypatch.setattr(checks, "CLOCK_OFF_S", -1.0)
    monkeypatch.setattr(checks, "CONNECTIONS_LEFT_MIN", 10_000)
    monkeypatch.setattr(checks, "OLD_TRANSACTION_S", 0.0)
    with closing(server.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        found = {check.name: check.level for check in await ledger.examine()}
        other.execute("ROLLBACK")
    await ledger.close()
    doubtful = {name for name, level in found.items() if level is Level.WARN}
    assert doubtful == {"server_clock", "durability", "connections", "old_transactions"}


async def test_a_setting_that_libpq_does_not_take_is_a_mistake_of_the_settings(
    server: PostgresServer, database: str
) -> None:
    with pytest.raises(UsageError, match="DATABASE_URL has a setting that libpq does not take"):
        await open_ledger(server.url(database) + "&connect_timeout=abc")


async def test_a_user_who_may_only_read_is_told_what_to_grant(server: PostgresServer, database: str) -> None:
    await (await open_ledger(server.url(database))).close()
    with closing(server.connect(database)) as owner:
        owner.execute("CREATE ROLE looks_on LOGIN")
        owner.execute(
            "GRANT USAGE ON SCHEMA polyb2 TO looks_on; GRANT SELECT ON ALL TABLES IN SCHEMA polyb2 TO looks_on"
        )
        ledger = await open_ledger(
            server.url(database).replace("polyb2@", "looks_on@"), retry=lambda _error, _waited_s: True
        )
        try:
            with pytest.raises(UsageError, match="let the owner of the schema run GRANT"):
                await ledger.register("worker", 60_000, "host", "1")
        finally:
            await ledger.close()
            owner.execute("DROP OWNED BY looks_on; DROP ROLE looks_on")
