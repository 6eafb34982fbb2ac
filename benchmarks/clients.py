"""The programs that copy everything from one side to the other: polyb2 and its peers, as a user would start them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pair import Pair

PEERS = Path(__file__).parents[1] / ".venv-bench" / "bin"
_COPIERS = Path(__file__).parent / "copiers"
LEDGER = "polyb2.db"
_TUNED = {
    "--transfers": "4",
    "--s3-upload-concurrency": "4",
    "--s3-chunk-size": "16M",
    "--multi-thread-streams": "4",
    "--s3-use-unsigned-payload": "true",
}


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command line and what it finds in its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Client:
    """A program and its settings.

    Attributes:
        name: as tables say it.
        prepare: what to start, for a pair of servers and an empty folder.
        shown: its command line, as a reader would type it.
        is_peer: it is in the peers' environment.
    """

    name: str
    prepare: Callable[[Pair, Path], Invocation]
    shown: str
    is_peer: bool = True


def polyb2(concurrency: int = 32, name: str = "polyb2", *options: str, **settings: str) -> Client:
    """The mirror with a ledger of its own; ``settings`` are environment variables."""
    words = ["sync", "--historical", "--yes", "--dataset", "*/*", "--concurrency", str(concurrency), *options]

    def prepare(pair: Pair, folder: Path) -> Invocation:
        return Invocation([sys.executable, "-m", "polyb2", *words], environment_of(pair, folder) | settings)

    given = " ".join(f"{key}={value}" for key, value in settings.items())
    return Client(name, prepare, f"{given} polyb2 {' '.join(words)}".strip().replace("*/*", "'*/*'"), is_peer=False)


def polyb2_processes(count: int, concurrency: int = 32) -> Client:
    """The queue fed by one process, then drained by ``count`` of them that share the ledger."""
    words = ["--concurrency", str(concurrency)]

    def prepare(pair: Pair, folder: Path) -> Invocation:
        program = f"{shlex.quote(sys.executable)} -m polyb2"
        script = (
            f"{program} discover --historical --yes --dataset '*/*' || exit 1; "
            f'for process in {" ".join(map(str, range(count)))}; do {program} run {" ".join(words)} & started="$started $!"; '
            "done; for process in $started; do wait $process || exit 1; done"
        )
        return Invocation(["sh", "-c", script], environment_of(pair, folder))

    name = "polyb2, 1 process" if count == 1 else f"polyb2, {count} processes"
    return Client(name, prepare, f"polyb2 discover ...; {count} x polyb2 run {' '.join(words)}", is_peer=False)


def environment_of(pair: Pair, folder: Path) -> dict[str, str]:
    """The settings of polyb2 between these servers, with its ledger in ``folder``."""
    return _environment(
        pair,
        {
            "POLYGON_S3_ENDPOINT_URL": pair.source_url,
            "POLYGON_S3_ACCESS_KEY_ID": "bench",
            "POLYGON_S3_SECRET_ACCESS_KEY": "bench-secret",
            "B2_ENDPOINT_URL": pair.target_url,
            "B2_KEY_ID": "bench",
            "B2_APPLICATION_KEY": "bench-secret",
            "B2_BUCKET_NAME": "mirror",
            "DATABASE_URL": f"sqlite:///{folder / LEDGER}",
            "POLYB2_HTTP_ADDR": "",
        },
    )


def rclone(name: str = "rclone tuned", options: Mapping[str, str] = _TUNED) -> Client:
    """Rclone, between two remotes; ``options`` beyond those that make it quiet."""
    words = [word for pair in options.items() for word in pair]

    def prepare(pair: Pair, folder: Path) -> Invocation:
        config = folder / "rclone.conf"
        config.write_text(_remote("source", pair.source_url) + _remote("target", pair.target_url))
        command = [str(PEERS / "rclone"), "copy", "source:flatfiles", "target:mirror", "--config", str(config), *words]
        return Invocation(command, _environment(pair, {}))

    return Client(name, prepare, f"rclone copy source:flatfiles target:mirror {' '.join(words)}".strip())


def copier(name: str, script: str, *arguments: int, is_peer: bool = True) -> Client:
    """A script of ``benchmarks/copiers``: with a library that peers would write one with, or to show a floor."""
    words = [f"{script}.py", "SOURCE", "TARGET", *map(str, arguments)]

    def prepare(pair: Pair, folder: Path) -> Invocation:
        python = str(PEERS / "python") if is_peer else sys.executable
        command = [python, str(_COPIERS / words[0]), pair.source_url, pair.target_url, *words[3:]]
        return Invocation(command, _environment(pair, {}) | {"HOME": str(folder)})

    return Client(name, prepare, f"python benchmarks/copiers/{' '.join(words)}", is_peer)


def pump(streams: int = 32, part_mib: int = 16) -> Client:
    """The raw pump: what a line gives, see ``copiers/pump.py``."""
    return copier("raw pump", "pump", streams, part_mib, is_peer=False)


def bare_aiohttp(streams: int = 32) -> Client:
    """The floor of small files, see ``copiers/aiohttp_copy.py``."""
    return copier("bare aiohttp", "aiohttp_copy", streams, is_peer=False)


def s5cmd(name: str = "s5cmd") -> Client:
    """One endpoint a process: ``cat`` of one piped into ``pipe`` of another, a pair of processes a file, four at a time."""

    def prepare(pair: Pair, _folder: Path) -> Invocation:
        program = str(PEERS / "s5cmd")
        one = (
            f'{program} --endpoint-url {pair.source_url} cat --concurrency 4 --part-size 16 "s3://flatfiles/$1" | '
            f'{program} --endpoint-url {pair.target_url} pipe --concurrency 4 --part-size 16 "s3://mirror/$1"'
        )
        keys = " ".join(key for key, _ in pair.conditions.files)
        return Invocation(
            ["sh", "-c", f"printf '%s\\n' {keys} | xargs -P 4 -n 1 sh -c '{one}' sh"], _environment(pair, {})
        )

    return Client(name, prepare, "s5cmd cat s3://flatfiles/KEY | s5cmd pipe s3://mirror/KEY  (4 files at a time)")


def available(client: Client) -> bool:
    """Whether its program is installed."""
    return not client.is_peer or shutil.which("rclone", path=str(PEERS)) is not None


def _environment(pair: Pair, settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's but the way to programs; keys, and the certificate authority to trust."""
    made = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench-secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if pair.conditions.certificates:
        authority = str(pair.conditions.certificates.authority)
        made |= {"SSL_CERT_FILE": authority, "AWS_CA_BUNDLE": authority}
    return made | dict(settings)


def _remote(name: str, url: str) -> str:
    return (
        f"[{name}]\ntype = s3\nprovider = Other\naccess_key_id = bench\nsecret_access_key = bench-secret\n"
        f"region = us-east-1\nendpoint = {url}\nforce_path_style = true\nlist_version = 2\n\n"
    )
