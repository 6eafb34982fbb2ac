"""`sslmode=verify-full&sslrootcert=system`, which the documents recommend, verifies the server by what this system trusts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from benchmarks.certificates import make_certificates
from polyb2.core.errors import LedgerError
from polyb2.ledger.open import open_ledger
from polyb2.ledger.postgres.connection import address_of
from tests.postgres import PostgresServer

VERIFIED = "sslmode=verify-full&sslrootcert=system"


@pytest.fixture
def authority(server: PostgresServer, tmp_path: Path) -> Iterator[Path]:
    """What signed the certificate that the server shows during the test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = make_certificates(tmp_path)
    owner = server.folder.stat()
    with closing(server.connect()) as connection:
        for setting, made_file in (("ssl_cert_file", made.certificate), ("ssl_key_file", made.key)):
            copy = Path(shutil.copy(made_file, server.folder))
            copy.chmod(0o600)
            shutil.chown(copy, owner.st_uid, owner.st_gid)
            connection.execute(f"ALTER SYSTEM SET {setting} = '{copy}'".encode())
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
        while not _speaks_tls(server):
            time.sleep(0.01)
        yield made.authority
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


def _speaks_tls(server: PostgresServer) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(_url(server, "postgres", "sslmode=require")).close()
        return True
    return False


def _url(server: PostgresServer, database: str, settings: str) -> str:
    return f"postgresql://polyb2@localhost:{server.port}/{database}?{settings}"


async def test_the_systems_authorities_are_trusted_and_no_other(
    server: PostgresServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg's own OpenSSL looks in a folder that no system has: `system` trusted nobody."""
    url = _url(server, server.new_database(), VERIFIED)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(LedgerError, match="certificate verify failed"):
        await open_ledger(url)
    monkeypatch.setattr("polyb2.ledger.postgres.connection._BUNDLES", (str(authority),))
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: _NoFile)
    ledger = await open_ledger(url)
    checks = {check.name: check.found for check in await ledger.examine()}
    await ledger.close()
    assert checks["tls"] == "the server is on this host"


class _NoFile:
    cafile = None


@pytest.mark.parametrize(
    ("settings", "sslmode", "is_replaced"),
    [
        (VERIFIED, "verify-full", True),
        ("sslrootcert=system", "verify-full", True),
        ("sslmode=require&sslrootcert=system", "require", False),  # libpq refuses it, in words
        ("sslmode=verify-full&sslrootcert=/own.pem", "verify-full", False),
    ],
)
def test_a_file_takes_the_place_of_system(
    settings: str, sslmode: str, is_replaced: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = tmp_path / "roots.pem"
    named.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    given = conninfo_to_dict(address_of(f"postgresql://host/db?{settings}", writes=True).conninfo)
    assert given["sslmode"] == sslmode
    assert (given["sslrootcert"] == str(named)) == is_replaced
