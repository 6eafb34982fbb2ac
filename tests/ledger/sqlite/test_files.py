"""The ledger's files: one way in, one lock, the right owner, and noticed when they go."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from polyb2.clock import Clock
from polyb2.core.errors import LedgerBusyError, LedgerError, LedgerGoneError, UsageError
from polyb2.ledger.open import open_ledger
from polyb2.ledger.sqlite import file_system, lock, store
from polyb2.ledger.sqlite import open as opening
from polyb2.ledger.sqlite.errors import translated
from polyb2.ledger.sqlite.file_system import FileSystem
from polyb2.ledger.sqlite.store import SqliteStore, open_store
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.facts import fact, remember
from tests.descriptors import no_descriptors_left
from tests.ledger.sqlite.locks import held_locks

OTHER, ANOTHER = 12345, 12346
SOURCES = Path(store.__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the part of other users")


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    ledger = await open_store(path, Clock())
    await ledger.write("test", lambda tx: remember(tx, "a", "1"))
    yield ledger
    with suppress(ValueError):  # the test closed it
        await ledger.close()


# -- one way in -------------------------------------------------------------------------------------------------------


async def read_page(ledger: SqliteStore, _path: Path) -> None:
    reader = await ledger.reader()
    assert await reader.read(lambda tx: fact(tx, "a")) == "1"
    await reader.close()


async def open_again(_ledger: SqliteStore, path: Path) -> None:
    again = await open_store(path, Clock())
    await again.write("test", lambda tx: remember(tx, "b", "1"))
    await again.close()


async def open_to_read(_ledger: SqliteStore, path: Path) -> None:
    await (await open_store(path, Clock(), read_only=True)).close()


async def read_beside_a_reader(_ledger: SqliteStore, path: Path) -> None:
    only = await open_store(path, Clock(), read_only=True)
    reader = await only.reader()
    assert await reader.read(lambda tx: fact(tx, "a")) == await only.read(lambda tx: fact(tx, "a")) == "1"
    await reader.close()
    await only.close()


async def fail_to_open(_ledger: SqliteStore, path: Path) -> None:
    link = path.with_name("second.db")
    link.hardlink_to(path)
    with pytest.raises(UsageError):
        await open_store(path, Clock())
    link.unlink()


@pytest.mark.parametrize("look", [read_page, open_again, open_to_read, read_beside_a_reader, fail_to_open])
async def test_whoever_opens_it_too_leaves_the_locks_of_the_process(
    opened: SqliteStore, path: Path, look: Callable[[SqliteStore, Path], Awaitable[None]]
) -> None:
    before = held_locks(path)
    assert len(before) == 2, "SQLite holds its lock on the database and on the -shm"
    for _ in range(3):
        await look(opened, path)
        assert held_locks(path) == before
    descriptors = [name for name in map(_target, Path("/proc/self/fd").iterdir()) if name.startswith(str(path))]
    assert len(descriptors) < 8, "what SQLite may not close yet it uses again"


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


def test_nothing_but_the_ledgers_own_modules_opens_a_database() -> None:
    found = {
        str(source.relative_to(SOURCES))
        for source in SOURCES.rglob("*.py")
        if "sqlite3.connect" in source.read_text() or "aiosqlite.connect" in source.read_text()
    }
    assert found == {"ledger/sqlite/open.py"}


OPENS = """
import asyncio, sys
from pathlib import Path
from polyb2.ledger.open import open_ledger

path, seen = Path(sys.argv[1]), set()

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, Path)):
        seen.add(str(arguments[0]))

async def look():
    for read_only in (False, True, False):
        ledger = await open_ledger(f"sqlite:///{path}", read_only=read_only)
        reader = await ledger.reader()
        await reader.status()
        await reader.close()
        await ledger.close()

asyncio.run(look())
sys.addaudithook(hook)
asyncio.run(look())
print(sorted(name.removeprefix(str(path)) for name in seen if name.startswith(str(path))))
"""


def test_python_itself_never_opens_a_file_that_sqlite_has(path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", OPENS, path], capture_output=True, text=True, check=True).stdout
    assert told.strip() in {"[]", "['.lock']"}


# -- one lock for one file --------------------------------------------------------------------------------------------


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Another process holds the lock of that file."""
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


@pytest.mark.skipif(not lock.has_wal_reset_bug(), reason="this SQLite needs no lock file")
@pytest.mark.parametrize("name", ["link.db", "folder"])
async def test_by_a_symbolic_link_the_lock_is_that_of_the_file(
    opened: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    link = path.with_name(name)
    (link if link.parent == path.parent else link.parent).symlink_to(
        path if link.parent == path.parent else path.parent
    )
    monkeypatch.setattr(lock, "BUSY_TRY_S", 0.05)
    monkeypatch.setattr("polyb2.ledger.busy_retry.BUSY_S", 0.1)
    with held_elsewhere(path.with_name("ledger.db.lock")), pytest.raises(LedgerBusyError):
        await open_store(link, Clock())
    by_link = await open_store(link, Clock())
    assert await by_link.read(lambda tx: fact(tx, "a")) == "1"
    await by_link.close()
    assert not link.with_name("link.db.lock").exists()


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
async def test_a_file_with_two_names_is_refused_by_both(opened: SqliteStore, path: Path, read_only: bool) -> None:
    path.with_name("other.db").hardlink_to(path)
    for name in ("ledger.db", "other.db"):
        with pytest.raises(UsageError, match="2 names") as raised:
            await open_store(path.with_name(name), Clock(), read_only=read_only)
        assert raised.value.exit_code == 2
    assert not list(path.parent.glob("other.db-*")), "nothing was made beside the other name"


async def test_a_file_that_is_mounted_alone_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    monkeypatch.setattr(file_system, "file_system_of", lambda real: FileSystem("ext4", str(real)))
    with pytest.raises(UsageError, match="mount the folder instead"):
        await open_store(path, Clock())


def test_a_lock_that_is_replaced_before_it_is_taken_is_taken_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two processes hold one each: that of the removed file, and that of the new one."""
    path.touch()
    name, acquire, calls = path.with_name("ledger.db.lock"), lock._acquire, []

    def acquire_late(descriptor: int, deadline: float) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            name.unlink()
        acquire(descriptor, deadline)

    monkeypatch.setattr(lock, "_acquire", acquire_late)
    with lock.FileLock(path, needed=True).held(), name.open() as again, pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(calls) == 2


async def test_a_reader_makes_no_lock_file(path: Path) -> None:
    await (await open_store(path, Clock())).close()
    path.with_name("ledger.db.lock").unlink(missing_ok=True)
    reader = await open_store(path, Clock(), read_only=True)
    assert await reader.read(lambda tx: fact(tx, "a")) is None
    await reader.close()
    assert not path.with_name("ledger.db.lock").exists()


# -- whose files they are ---------------------------------------------------------------------------------------------


AS_USER = """
import asyncio, os, sys, tempfile
from pathlib import Path
from polyb2.core.errors import Polyb2Error
from polyb2.clock import Clock
from polyb2.ledger.sqlite.store import open_store
from polyb2.ledger.verbs.facts import remember

user, asked = int(sys.argv[1]), sys.argv[2:]

async def work(path, what):
    ledger = await open_store(path, Clock(), read_only=what == "read")
    if what == "write":
        await ledger.write("test", lambda tx: remember(tx, "by", str(user)))
    else:
        await ledger.read(lambda tx: None)
    await ledger.close()

async def load_all():
    with tempfile.TemporaryDirectory() as folder:
        ledger = await open_store(Path(folder) / "ledger.db", Clock())
        await ledger.write("test", lambda tx: remember(tx, "by", "root"))
        await (await ledger.reader()).close()
        await ledger.close()

asyncio.run(load_all())  # the user may not be able to read the libraries
os.umask(0o022)
os.setgroups([])
os.setgid(user)
os.setuid(user)
for path, what in zip(asked[::2], asked[1::2]):
    try:
        asyncio.run(work(Path(path), what))
        print(0)
    except Polyb2Error as error:
        print(error.exit_code, error)
"""


def as_user(user: int, *asked: Path | str) -> list[str]:
    """Open ledgers as that user, each to ``read`` or to ``write``: a line each, the exit code and what was said."""
    words = [sys.executable, "-c", AS_USER, str(user), *map(str, asked)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def owners(folder: Path) -> set[tuple[int, int, int]]:
    found = [entry.stat() for entry in folder.iterdir()]
    return {(one.st_uid, one.st_gid, one.st_mode & 0o777) for one in found}


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of user 12345; not below pytest's own, which no other user may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, OTHER, OTHER)
        yield Path(name)


@as_root
@pytest.mark.parametrize("first", ["read", "write"])
def test_what_root_makes_beside_a_ledger_is_its_owners(home: Path, first: str) -> None:
    """As after a restore: the lock file is not in the backup."""
    path = home / "ledger.db"
    assert as_user(OTHER, path, "write") == ["0"]
    path.with_name("ledger.db.lock").unlink(missing_ok=True)
    for user, what in ((0, first), (OTHER, "write"), (0, "write"), (OTHER, "read")):
        assert as_user(user, path, what) == ["0"]
        assert owners(home) == {(OTHER, OTHER, 0o600)}


@as_root
def test_a_ledger_that_root_makes_in_somebodys_folder_is_theirs(home: Path) -> None:
    path = home / "data" / "ledger.db"
    assert as_user(0, path, "write") == ["0"]
    assert (path.parent.stat().st_uid, path.parent.stat().st_mode & 0o777) == (OTHER, 0o755)
    assert owners(path.parent) == {(OTHER, OTHER, 0o600)}
    assert as_user(OTHER, path, "write") == ["0"]


@as_root
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("what", ["read", "write"])
def test_a_file_of_another_owner_is_named_with_both_users(home: Path, suffix: str, what: str) -> None:
    """As after a copy that root put back and looked at, and a ``chown`` of one file of three."""
    path = home / "ledger.db"
    assert as_user(OTHER, path, "write") == ["0"]
    strange = path.with_name(path.name + suffix)
    strange.touch(mode=0o600)
    os.chown(strange, 0, 0)
    (said,) = as_user(OTHER, path, what)
    does = "read" if what == "read" else "written"
    assert said.startswith(f"2 {strange} belongs to uid 0 and may not be {does} by uid {OTHER}: ")


@as_root
def test_a_folder_of_another_owner_is_said_with_who_asked(home: Path) -> None:
    """As a volume that a container was given."""
    (said,) = as_user(ANOTHER, home / "ledger.db", "write")
    assert f"Permission denied to uid {ANOTHER}; give it the folder (chown), or set DATABASE_URL" in said


@as_root
@pytest.mark.skipif(not lock.has_wal_reset_bug(), reason="this SQLite needs no lock file")
def test_a_lock_that_an_older_root_left_is_said_and_mended_by_root(home: Path) -> None:
    path = home / "ledger.db"
    assert as_user(OTHER, path, "write") == ["0"]
    os.chown(path.with_name("ledger.db.lock"), 0, 0)
    (said,) = as_user(OTHER, path, "write")
    assert said.startswith("2 ")
    assert "ledger.db.lock may not be opened by this user" in said
    assert as_user(0, path, "write") == ["0"]
    assert as_user(OTHER, path, "write") == ["0"]


@as_root
@pytest.mark.skipif(not lock.has_wal_reset_bug(), reason="this SQLite needs no lock file")
def test_the_lock_of_a_ledger_that_a_group_shares_is_the_groups(home: Path) -> None:
    path = home / "ledger.db"
    assert as_user(OTHER, path, "write") == ["0"]
    path.chmod(0o660)
    path.with_name("ledger.db.lock").unlink()
    assert as_user(OTHER, path, "write") == ["0"]
    assert path.with_name("ledger.db.lock").stat().st_mode & 0o777 == 0o660


def plant_link(folder: Path) -> None:
    (folder / "ledger.db").symlink_to(folder / "elsewhere.db")
    os.chown(folder / "ledger.db", ANOTHER, ANOTHER, follow_symlinks=False)


def plant_folder(folder: Path) -> None:
    (folder / "ledger.db").mkdir()


def plant_chain(folder: Path) -> None:
    (folder / "hop").symlink_to(folder / "elsewhere.db")
    os.chown(folder / "hop", ANOTHER, ANOTHER, follow_symlinks=False)
    (folder / "ledger.db").symlink_to(folder / "hop")


def plant_file(folder: Path) -> None:
    (folder / "ledger.db").touch(0o666)
    os.chown(folder / "ledger.db", ANOTHER, ANOTHER)


def plant_pipe(folder: Path) -> None:
    os.mkfifo(folder / "ledger.db")


def plant_lock(folder: Path) -> None:
    (folder / "ledger.db.lock").touch(0o666)
    os.chown(folder / "ledger.db.lock", ANOTHER, ANOTHER)


def plant_lock_link(folder: Path) -> None:
    (folder / "ledger.db.lock").symlink_to(folder / "elsewhere")


def plant_wal_link(folder: Path) -> None:
    (folder / "ledger.db-wal").symlink_to(folder / "elsewhere")


PLANTS: dict[str, Callable[[Path], None]] = {
    "link": plant_link,
    "chain": plant_chain,
    "file": plant_file,
    "lock": plant_lock,
    "lock link": plant_lock_link,
    "wal link": plant_wal_link,
    "pipe": plant_pipe,
    "folder": plant_folder,
}
STRANGER = "another user (uid 12346)"
SAID = {
    "link": STRANGER,
    "chain": STRANGER,
    "file": STRANGER,
    "lock": STRANGER,
    "lock link": "ledger.db.lock is a symbolic link",
    "wal link": "ledger.db-wal is a symbolic link",
    "pipe": "a device, a pipe or a socket",
    "folder": "Is a directory",
}


@as_root
@pytest.mark.parametrize("user", [0, OTHER])
def test_what_others_planted_in_an_open_folder_is_not_used(home: Path, user: int) -> None:
    asked: list[Path | str] = []
    for name, plant in PLANTS.items():
        folder = home / name
        folder.mkdir()
        folder.chmod(0o1777)
        plant(folder)
        for what in ("read", "write"):
            asked += [folder / "ledger.db", what]
    before = {str(entry): entry.lstat().st_size for entry in home.rglob("*")}
    lines = as_user(user, *asked)
    for name, reading, writing in zip(PLANTS, lines[::2], lines[1::2], strict=True):
        for line in (reading, writing):
            assert line.startswith("2 "), (name, line)
            assert SAID[name] in line
    assert {str(entry): entry.lstat().st_size for entry in home.rglob("*")} == before


async def test_the_lock_is_not_followed_either_when_it_is_swapped_later(opened: SqliteStore, path: Path) -> None:
    if not lock.has_wal_reset_bug():
        pytest.skip("this SQLite needs no lock file")
    aside = path.with_name("ledger.db.lock")
    aside.unlink()
    aside.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(UsageError, match="not followed"):
        await opened.write("test", lambda tx: remember(tx, "b", "1"))
    assert not path.with_name("elsewhere").exists()
    aside.unlink()


@pytest.mark.skipif(not lock.has_wal_reset_bug(), reason="this SQLite needs no lock file")
async def test_a_process_without_descriptors_is_told_its_limit(path: Path) -> None:
    opened = await open_store(path, Clock(), retry=lambda _error, _waited_s: False)
    with no_descriptors_left(), pytest.raises(LedgerError, match=r"\(ulimit -n\), or lower --concurrency"):
        await written(opened)
    await written(opened)
    await opened.close()


# -- files that go ----------------------------------------------------------------------------------------------------


def remove(*suffixes: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink()

    return act


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def cut(suffix: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path.with_name(path.name + suffix), 0)


GOING = {
    "all": remove("", "-wal", "-shm", ".lock") if lock.has_wal_reset_bug() else remove("", "-wal", "-shm"),
    "database": remove(""),
    "wal": remove("-wal"),
    "shm": remove("-shm"),
    "folder": remove_folder,
    "replaced": replace,
    "cut database": cut(""),
    "cut wal": cut("-wal"),
}


async def written(tx: SqliteStore) -> None:
    await tx.write("test", lambda tx: remember(tx, "b", "2"))


@pytest.mark.parametrize("notice", [written, SqliteStore.watch], ids=["write", "watch"])
@pytest.mark.parametrize("go", GOING.values(), ids=GOING)
async def test_files_that_go_are_noticed_before_anything_is_written(
    opened: SqliteStore, path: Path, go: Callable[[Path], None], notice: Callable[[SqliteStore], Awaitable[None]]
) -> None:
    go(path)
    before = {entry.name for entry in path.parent.iterdir()} if path.parent.exists() else None
    async with asyncio.timeout(3):
        with pytest.raises(LedgerGoneError, match="nothing more is written") as raised:
            await notice(opened)
    assert str(opened.gone) == str(raised.value)
    with pytest.raises(LedgerGoneError):
        await opened.write("test", lambda tx: remember(tx, "c", "3"))
    await opened.close()
    after = {entry.name for entry in path.parent.iterdir()} if path.parent.exists() else None
    assert (after or set()) <= (before or set()), "nothing is made again"


async def test_a_write_that_went_into_a_removed_file_is_not_answered_as_durable(
    opened: SqliteStore, path: Path
) -> None:
    def remove_meanwhile(tx: Transaction) -> None:
        remember(tx, "b", "2")
        path.unlink()

    with pytest.raises(LedgerGoneError):
        await opened.write("test", remove_meanwhile)


async def test_a_file_that_is_replaced_while_it_is_opened_is_not_taken_for_the_one_that_is_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_store(path, Clock())).close()
    connect = opening.connect

    def connect_late(real: Path, by: lock.FileLock, *, read_only: bool) -> sqlite3.Connection:
        connection = connect(real, by, read_only=read_only)
        replace(path)
        return connection

    monkeypatch.setattr(store, "connect", connect_late)
    with pytest.raises(LedgerGoneError, match="was replaced"):
        await open_store(path, Clock())


async def test_what_is_put_back_in_its_place_is_left_to_its_owner(opened: SqliteStore, path: Path) -> None:
    """Closing must not take away the -wal of the copy that was restored over a running process."""
    shutil.copy(path, path.with_name("restored.db"))
    path.unlink()
    path.with_name("ledger.db-wal").unlink()
    path.with_name("restored.db").replace(path)
    path.with_name("ledger.db-wal").write_bytes(b"the restored one's")
    with pytest.raises(LedgerGoneError):
        await written(opened)
    await opened.close()
    assert path.with_name("ledger.db-wal").read_bytes() == b"the restored one's"


async def test_a_wal_that_another_program_clears_in_order_is_no_loss(opened: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as litestream:
        assert litestream.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert path.with_name("ledger.db-wal").stat().st_size == 0
    await written(opened)
    assert await opened.read(lambda tx: fact(tx, "b")) == "2"
    assert opened.gone is None


async def test_a_wal_that_was_cut_is_not_written_on_before_sqlite_begins_it_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it was in the database already, so that nothing is lost; but what is appended behind a hole is, in a crash."""
    monkeypatch.setattr("polyb2.ledger.busy_retry.BUSY_S", 0.1)
    monkeypatch.setattr(opening, "BUSY_TRY_S", 0.02)
    opened = await open_store(path, Clock())
    await opened.write("test", lambda tx: remember(tx, "a", "1"))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM facts").fetchall()
        with closing(sqlite3.connect(path)) as other:
            _, frames, moved = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            assert frames == moved > 0
        os.truncate(path.with_name("ledger.db-wal"), 0)
        with pytest.raises(LedgerBusyError, match="another connection reads it"):
            await written(opened)
    await written(opened)
    for suffix in ("", "-wal"):  # as a crash leaves them
        shutil.copy(path.with_name(path.name + suffix), path.with_name("crashed.db" + suffix))
    crashed = await open_store(path.with_name("crashed.db"), Clock(), read_only=True)
    assert await crashed.read(lambda tx: fact(tx, "b")) == "2"
    await crashed.close()
    await opened.close()


async def test_the_reader_goes_with_its_ledger(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    reader = await ledger.reader()
    assert (await reader.status()).totals.files == 0
    await reader.close()
    path.unlink()
    with pytest.raises(LedgerGoneError):
        await ledger.reader()
    await ledger.close()


async def test_the_idle_watch_looks_within_seconds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.WATCH_EVERY_S <= 2
    monkeypatch.setattr(store, "WATCH_EVERY_S", 0.01)
    ledger = await open_store(path, Clock())
    watching = asyncio.create_task(ledger.watch())
    done, _ = await asyncio.wait([watching], timeout=0.1)
    assert not done
    path.unlink()
    with pytest.raises(LedgerGoneError):
        await asyncio.wait_for(watching, 5)
    await ledger.close()


# -- places that cannot be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["d/" * 2000 + "x.db", "d" * 300 + "/x.db", "x" * 250, "/" + "d/" * 250 + "x" * 10])
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_path_that_is_too_long_is_said_briefly(path: str, read_only: bool) -> None:
    with pytest.raises(UsageError, match=r"is too long \(\d+ bytes, its name \d+\)") as caught:
        await open_store(Path(path), Clock(), read_only=read_only)
    assert len(str(caught.value)) < 300


async def test_the_longest_path_that_sqlite_takes(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 300:
        folder /= "d" * 100
    path = folder / ("x" * (file_system._PATH_BYTES_MAX - len(str(folder)) - 1))
    await (await open_store(path, Clock())).close()
    with pytest.raises(UsageError, match="too long"):
        await open_store(path.with_name(path.name + "x"), Clock())


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOLCK, UsageError, "has no locks (No locks available)"),
        (errno.EOPNOTSUPP, UsageError, "set DATABASE_URL to a local disk"),
        (errno.EIO, LedgerError, "check the disk"),
    ],
)
async def test_a_file_system_without_locks_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store, "has_wal_reset_bug", lambda: True)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(kind) as caught:
        await open_store(path, Clock())
    assert words in str(caught.value)


def test_a_limit_of_file_sizes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (10240, 10240))
    with pytest.raises(LedgerError, match="ulimit -f, which allows files of 10240 bytes"), translated():
        raise _operational(sqlite3.SQLITE_IOERR)


def _operational(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


async def test_a_folder_may_have_as_long_a_name_as_the_file_system_takes(tmp_path: Path) -> None:
    folder = tmp_path / ("n" * 255)
    folder.mkdir()
    ledger = await open_ledger(f"sqlite:///{folder / 'l.db'}")
    await ledger.close()
    assert (folder / "l.db").exists()
