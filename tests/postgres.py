"""A real PostgreSQL for the tests: Debian's, private to one test run, in a temporary folder, on a socket and on loopback.

The server refuses to run as root, so that it runs as the user ``postgres`` then. What a test breaks, it breaks with the
server's own means: a signal, a stop, a standby that is promoted.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg.rows import dict_row

from tests.daemons import READY_S, SETPRIV, Daemons, ServerError, missing, reserved_ports

INSTALL_SCRIPT: Final = "tools/install-test-servers.sh"
_LIBRARY: Final = Path("/usr/lib/postgresql")
_FAST: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
_ALWAYS: Final = (
    "max_connections=200",
    "shared_buffers=64MB",
    "log_min_messages=warning",
    "listen_addresses=127.0.0.1",
)
GUARDED: Final = "guarded"
"""A user that the server asks for its password, as soon as a test makes it; it trusts all others."""


def _programs() -> Path:
    """The folder of the newest server."""
    found = sorted(_LIBRARY.glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else _LIBRARY


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def postgres_missing() -> str | None:
    """Why no server can run here, as the reason of a skip; None if one can."""
    return missing((_programs() / "initdb", SETPRIV), INSTALL_SCRIPT)


class PostgresServer:
    """A server of its own; ``durable`` is for tests that crash it, ``settings`` are more of the server's."""

    def __init__(self, *settings: str, durable: bool = False) -> None:
        self._settings = (*_ALWAYS, *(() if durable else _FAST), *settings)
        # Not the test's folder: the other user may not enter that, and the path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.data = self.folder / "data"
        user = "postgres" if os.getuid() == 0 else None
        if user:
            shutil.chown(self.folder, user, user)
        self._daemons = Daemons(self.folder, user)
        with reserved_ports(1) as (self.port,):
            pass
        self._databases = 0

    def __enter__(self) -> Self:
        self._make()
        rules = self.data / "pg_hba.conf"
        asked = f"local all {GUARDED} scram-sha-256\nhost all {GUARDED} 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(asked + rules.read_text(encoding="utf-8"), encoding="utf-8")
        self.start()
        return self

    def _make(self) -> None:
        options = ("--username=polyb2", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        self._daemons.run("initdb", _programs() / "initdb", f"--pgdata={self.data}", *options)

    def __exit__(self, *_exception: object) -> None:
        self._daemons.stop()

    def start(self) -> None:
        """Start it, and return once it answers."""
        places = (f"port={self.port}", f"unix_socket_directories={self.folder}")
        options = [word for setting in (*self._settings, *places) for word in ("-c", setting)]
        command = (_programs() / "postgres", "-D", self.data, *options)
        self._daemons.start("postgres", *command)
        deadline_s = time.monotonic() + READY_S
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline_s:
                    raise ServerError(self._daemons.log_tails()) from None
                time.sleep(0.02)
                if self._daemons.ended():  # processes of one that was killed still use its memory
                    self._daemons.start("postgres", *command)
            else:
                return

    def kill(self) -> None:
        """Kill the postmaster; its processes end by themselves."""
        self._daemons.kill("postgres")

    def stop(self) -> None:
        """Stop it as if it had crashed."""
        self._daemons.run("stop", _programs() / "pg_ctl", "stop", "--mode=immediate", "-D", self.data)

    def freeze(self) -> None:
        """Have all its processes stand still; the kernel still answers for them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = self._daemons.pid("postgres")
        # First the postmaster, so that it starts no other one meanwhile.
        for pid in (postmaster, *_children(postmaster)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Take no writes for a while, in the sessions that there are as well: as a server that was demoted."""
        self._alter("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            self._alter("RESET default_transaction_read_only")

    def _alter(self, words: str) -> None:
        with closing(self.connect()) as connection:
            connection.execute(f"ALTER SYSTEM {words}")
            connection.execute("SELECT pg_reload_conf()")
        wanted = "on" if words.startswith("SET") else "off"
        while self._default() != wanted:
            time.sleep(0.01)

    def _default(self) -> str:
        with closing(self.connect()) as connection:
            row = connection.execute("SHOW default_transaction_read_only").fetchone()
            assert row is not None
            return str(row["default_transaction_read_only"])

    def url(self, database: str = "postgres") -> str:
        """As ``DATABASE_URL`` has it."""
        return f"postgresql://polyb2@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[dict[str, Any]]:
        """A connection of the test's own."""
        return psycopg.connect(self.url(database), autocommit=True, row_factory=dict_row)

    @property
    def has_ended(self) -> bool:
        return bool(self._daemons.ended())

    def new_database(self, template: str = "template0") -> str:
        """The name of a new database."""
        self._databases += 1
        name = f"ledger_{self._databases}"
        with closing(self.connect()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        with closing(self.connect()) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Standby(PostgresServer):
    """A copy of another server that follows it, some moments behind."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__("synchronous_commit=on")
        self._primary = primary

    def _make(self) -> None:
        where = f"--dbname=host={self._primary.folder} port={self._primary.port} user=polyb2"
        options = ("--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync")
        self._daemons.run("copy", _programs() / "pg_basebackup", f"--pgdata={self.data}", where, *options)

    def stop_following(self) -> None:
        """Lose what the other server commits from now on."""
        with closing(self.connect()) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SELECT 1 FROM pg_stat_wal_receiver").fetchone():
                time.sleep(0.01)

    def promote(self) -> None:
        self._daemons.run("promote", _programs() / "pg_ctl", "promote", "--wait", "-D", self.data)

    def url_with(self, primary: PostgresServer, database: str) -> str:
        """The URL of both."""
        hosts, ports = f"{primary.folder},{self.folder}", f"{primary.port},{self.port}"
        return f"postgresql://polyb2@/{database}?host={hosts}&port={ports}&target_session_attrs=read-write"


_POOLER: Final = Path("/usr/sbin/pgbouncer")


def pooler_missing() -> str | None:
    """Why no pooler can run here; None if one can."""
    return postgres_missing() or missing((_POOLER,), INSTALL_SCRIPT)


class Pooler:
    """pgbouncer before a server, which hands each transaction to any of its few sessions."""

    def __init__(self, server: PostgresServer, sessions: int = 4) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pool-"))
        user = "postgres" if os.getuid() == 0 else None
        if user:
            shutil.chown(self.folder, user, user)
        self._daemons = Daemons(self.folder, user)
        with reserved_ports(1) as (self.port,):
            pass
        self._settings = self.folder / "pgbouncer.ini"
        (self.folder / "users").write_text('"polyb2" ""\n')
        self._settings.write_text(
            f"[databases]\n* = host={server.folder} port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {self.folder}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {sessions}\n"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._daemons.stop()

    def start(self) -> None:
        self._daemons.start("pgbouncer", _POOLER, self._settings)
        deadline_s = time.monotonic() + READY_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._daemons.ended() or time.monotonic() > deadline_s:
                    raise ServerError(self._daemons.log_tails()) from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        self._daemons.kill("pgbouncer")

    def url(self, database: str) -> str:
        return f"postgresql://polyb2@127.0.0.1:{self.port}/{database}"
