"""The trusted authorities: read once, only for TLS, and by nothing else on the way."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from polyb2.core.errors import UsageError
from polyb2.remote import connectors
from polyb2.remote.sessions import Account, Http, open_client

PROBE = """
import os
before = dict(os.environ)
import polyb2.engine
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"], os.environ == before)
"""


@pytest.fixture(autouse=True)
def _unread() -> Iterator[None]:
    connectors.authorities.cache_clear()
    yield
    connectors.authorities.cache_clear()


def test_loading_reads_no_certificates_and_leaves_the_environment_as_it_was() -> None:
    for given in (os.environ, {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}):
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env=dict(given)
        )
        assert done.stdout.split() == ["0", "True"]


@pytest.mark.parametrize(
    ("urls", "speaks"),
    [
        (["https://s3.us-west-004.backblazeb2.com", None], True),
        (["HTTPS://files.example", None], True),
        (["http://127.0.0.1:9000", None], False),
        (["http://127.0.0.1:9000", URL("https://proxy.example")], True),
    ],
)
def test_they_are_read_once_and_only_where_tls_is_spoken(urls: list[object], speaks: bool) -> None:
    assert connectors.speaks_tls(*urls) is speaks
    found = [connectors.trusted(*urls) for _ in range(2)]
    assert found == ([connectors.authorities()] * 2 if speaks else [True, True])
    assert connectors.authorities.cache_info().currsize == speaks


@pytest.mark.parametrize("path", ["/nowhere/keys", "keys"])
def test_no_keys_of_a_session_are_written_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str) -> None:
    """A browser's variable: it broke every command where it named no file, and would have given the traffic away else."""
    monkeypatch.setenv("SSLKEYLOGFILE", path)
    context = connectors.authorities()
    assert not context.keylog_filename
    assert not (tmp_path / "keys").exists()


def test_it_is_as_strict_as_the_standard_librarys_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    ours, default = connectors.authorities(), ssl.create_default_context()
    for name in ("verify_mode", "check_hostname", "verify_flags", "options", "minimum_version"):
        assert getattr(ours, name) == getattr(default, name), name
    assert ours.cert_store_stats() == default.cert_store_stats()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose passes ``${SSL_CERT_FILE:-}`` on as empty, and OpenSSL takes that for a file that is not there."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    systems = ssl.create_default_context().cert_store_stats()
    if not systems["x509"]:
        pytest.skip("this machine has no authorities of its own")
    monkeypatch.setenv("SSL_CERT_FILE", "")
    assert connectors.authorities().cert_store_stats() == systems


async def test_without_tls_no_connection_has_them_read() -> None:
    account = Account("http://127.0.0.1:9", "bucket", "us-west-004", "key", "secret")
    async with open_client(account) as client, Http(account.endpoint):
        with pytest.raises(Exception, match="Cannot connect"):
            await client.head_bucket(Bucket="bucket")
    assert connectors.authorities.cache_info().currsize == 0


async def test_a_certificate_is_checked_behind_a_proxy_as_well() -> None:
    """aiobotocore's own connections check none there."""
    connector = connectors.ControlSession(verify=True)._create_connector("http://proxy.example:3128")
    assert connector._ssl is connectors.authorities()
    await connector.close()


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("no certificate", "holds no certificates")])
def test_a_bundle_that_is_none_is_said_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    """OpenSSL would trust no authority then, and each side would fail as if its certificate were bad."""
    named = tmp_path / "ca.pem"
    if text is not None:
        named.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    with pytest.raises(UsageError, match=f"SSL_CERT_FILE names {named}, which {words}"):
        connectors.authorities()
