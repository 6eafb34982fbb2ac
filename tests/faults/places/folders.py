"""Where the ledger lies: names, lengths, file systems without room."""

from __future__ import annotations

import os

from tests.daemons import SETPRIV
from tests.faults.death import SYNC
from tests.faults.places.place import (
    NOBODY,
    Place,
    Play,
    in_mounts,
    place,
)
from tests.faults.watch import must
from tests.faults.world import World

_FOLDERS = {
    "spaces, quotes, a newline and URL signs": b"a b'\"\n?#%20&;$(x)",
    "bytes that are no UTF-8": b"caf\xe9-\xff",
    "a bidi mark and an escape": "\u202eabc\x1b[31m".encode(),
    "a name of 255 bytes": b"n" * 255,
}


def _in_folder(name: bytes) -> Play:
    async def play(world: World) -> str:
        folder = os.fsencode(world.folder) + b"/" + name
        os.mkdir(folder)  # noqa: PTH102 - bytes
        datasets = "us_stocks_sip/day_aggs_v1,us_options_opra/quotes_v1"
        env = {"DATABASE_URL": "sqlite:///ledger.db", "POLYB2_DATASETS": datasets}
        there = Place(world, env=env, named={"cwd": folder})
        said = await there.say(*SYNC)
        must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
        for words in (("status",), ("doctor",), ("status", "--json"), ("doctor", "--json")):
            said = await there.say(*words)
            must(said.code in {0, 3}, f"{' '.join(words)} ended with {said.code}: {said.err[-400:]}")
            must("\x1b[31m" not in said.out + said.err, f"{' '.join(words)} prints control characters")
        must(os.path.exists(folder + b"/ledger.db"), "the ledger is somewhere else")  # noqa: PTH110 - bytes
        return "mirrored"

    return play


for _words, _name in _FOLDERS.items():
    place(f"a working folder with {_words}")(_in_folder(_name))


@place("a path of 3,000 bytes")
async def _long_path(world: World) -> str:
    folder = world.folder
    for _ in range(14):
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    env = {"DATABASE_URL": f"sqlite:///{folder}/ledger.db"}
    said = await Place(world, env=env).say(*SYNC)
    must(said.code in {0, 2}, f"ended with {said.code}: {said.err[-300:]}")
    must(said.code == 0 or "permissions" not in said.err, f"the advice is wrong: {said.err[-300:]}")
    return f"ended with {said.code}: {said.err.strip()[-100:]}"


@place("a working folder that is removed")
async def _no_folder(world: World) -> str:
    (world.folder / "gone").mkdir()
    there = Place(world, before=("sh", "-c", f'cd {world.folder}/gone && rmdir ../gone && exec "$@"', "sh"))
    note = await there.mirrors()
    relative = Place(world, before=there.before, env={"DATABASE_URL": "sqlite:///ledger.db"})
    (world.folder / "gone").mkdir()
    return f"{note}; with a relative DATABASE_URL {await relative.refuses('folder|directory', 2)}"


@place("DATABASE_URL with escapes and a query")
async def _escapes(world: World) -> str:
    notes = []
    for url in (
        "sqlite:///my%20ledger.db",
        "sqlite:///ledger.db?mode=ro",
        "sqlite:///ledger.db#x",
        "sqlite:////",
        "sqlite://",
    ):
        said = await Place(world, env={"DATABASE_URL": url}).say(*SYNC)
        must(said.code in {0, 2}, f"{url} ended with {said.code}: {said.err[-300:]}")
        made = sorted(path.name for path in world.folder.iterdir() if path.name.endswith(("db", "ro", "#x")))
        notes.append(f"{url}: {said.code} {made}")
        for path in world.folder.iterdir():
            if path.is_file():
                path.unlink()
    return "; ".join(notes)


@place("a file system without a free inode", "root unshare")
async def _no_inodes(world: World) -> str:
    (world.folder / "small").mkdir()
    script = f"mount -t tmpfs -o nr_inodes=3 none {world.folder}/small; touch {world.folder}/small/filler"
    env = {"DATABASE_URL": f"sqlite:///{world.folder}/small/ledger.db"}
    return await Place(world, before=in_mounts(script), env=env).refuses("ledger", 1, 2, 4)


@place("a file system of 200 kB", "root unshare")
async def _no_room(world: World) -> str:
    (world.folder / "small").mkdir()
    script = f"mount -t tmpfs -o size=200k none {world.folder}/small"
    env = {"DATABASE_URL": f"sqlite:///{world.folder}/small/ledger.db"}
    return await Place(world, before=in_mounts(script), env=env).refuses("ledger", 1, 2, 4)


@place("umask 777 as an ordinary user", "root")
async def _umask_777(world: World) -> str:
    os.chown(world.folder, 65534, 65534)
    # The mask first: once the user is changed, the interpreter may be where that user may not look.
    before = ("sh", "-c", 'umask 777; exec "$@"', "sh", str(SETPRIV), *NOBODY)
    said = await Place(world, before=before).say(*SYNC)
    must(said.code in {0, 2}, f"ended with {said.code}: {said.err[-300:]}")
    return f"ended with {said.code}: {said.err.strip()[-160:]}"
