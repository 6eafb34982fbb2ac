"""The scenarios that compare clients: which files, which conditions, which clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import files
from benchmarks.certificates import Certificates
from benchmarks.clients import Client, available, bare_aiohttp, copier, polyb2, polyb2_processes, pump, rclone, s5cmd
from benchmarks.pair import Conditions, open_pair
from benchmarks.processes import CLIENT_CORE
from benchmarks.rounds import alternate
from benchmarks.tables import commands, comparison

LINE = {"rate_bytes_per_s": 125e6, "round_trip_s": 0.06, "window_bytes": 4 * files.MIB}
"""1 Gbit/s each way, 60 ms: see ``benchmarks/line.py``."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        rounds: that count, after the warm-up.
        scale: 1 is full size.
        certificates: for the scenarios over TLS.
        folder: for what a run leaves behind; removed afterwards.
        only: names of clients, to leave out all others; empty is all.
    """

    rounds: int
    scale: float
    certificates: Certificates
    folder: Path
    only: Sequence[str] = ()

    def chosen(self, clients: Sequence[Client]) -> list[Client]:
        """The clients that are asked for and installed."""
        return [client for client in clients if available(client) and (not self.only or client.name in self.only)]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to measure, and what comes of it as Markdown."""

    name: str
    title: str
    run: Callable[[Options], str]


@dataclass(frozen=True, slots=True)
class Copying:
    """A scenario in which every client copies the same files.

    Attributes:
        make_files: by scale.
        clients: polyb2 first.
        tls: over TLS.
        tells_parts: see ``Conditions``.
        by_file: the figure is CPU a file.
        line: see ``Conditions``.
        core: where the client runs; None lets it have both, beside the servers.
    """

    make_files: Callable[[float], files.Files]
    clients: Sequence[Client]
    tls: bool = False
    tells_parts: bool = True
    by_file: bool = False
    line: dict[str, float] | None = None
    core: int | None = CLIENT_CORE

    def __call__(self, options: Options) -> str:
        certificates = options.certificates if self.tls else None
        conditions = Conditions(
            self.make_files(options.scale), certificates, tells_parts=self.tells_parts, line=self.line
        )
        with open_pair(conditions) as pair:
            series = alternate(pair, options.chosen(self.clients), options.rounds, core=self.core)
        shown = comparison(series, conditions.total_bytes, len(conditions.files), by_file=self.by_file)
        servers = max(one.median(lambda run: run.server_cpu_s / run.cost.wall_s) for one in series)
        return (
            f"{len(conditions.files)} files, {conditions.total_bytes / files.GIB:.2f} GiB; medians of {options.rounds} "
            f"rounds after a warm-up. Their core kept the servers busy for {servers:.0%} of a client's time at most.\n\n"
            f"{shown}\n\n{commands(series)}"
        )


def _streams(transfers: int, streams: int, chunk: str) -> dict[str, str]:
    """Settings of rclone: so many files at once, in so many streams each."""
    return {
        "--transfers": str(transfers),
        "--checkers": str(transfers),
        "--s3-upload-concurrency": str(streams),
        "--s3-chunk-size": chunk,
        "--multi-thread-streams": str(streams),
        "--s3-use-unsigned-payload": "true",
    }


_TUNED = rclone()
_DEFAULTS = rclone("rclone defaults", {})
_PEERS = (_TUNED, _DEFAULTS, copier("obstore", "obstore_copy", 4), copier("boto3", "boto3_copy", 4))
_AT_32 = rclone("rclone 32", _streams(32, 4, "16M"))
_SMALL_PEERS = (
    _TUNED,
    _AT_32,
    _DEFAULTS,
    copier("obstore", "obstore_copy", 32),
    copier("boto3", "boto3_copy", 32),
    bare_aiohttp(),
)
_FIXED = tuple(polyb2(number, f"polyb2 {number}") for number in (32, 2, 4, 8, 16))
_CORES = (polyb2_processes(1), polyb2_processes(2), polyb2_processes(3))
_MEMORY = (polyb2(32, "polyb2", POLYB2_PART_SIZE="64MiB"), rclone("rclone 4 x 8", _streams(4, 8, "64M")))


def copying_scenarios() -> list[Scenario]:
    """Over HTTP and TLS each."""
    found = []
    for way, tls in (("http", False), ("tls", True)):
        over = f"over {way.upper()}"
        made = {
            "large": ("4 files of 1 GiB, proof etag", Copying(files.large, (polyb2(), *_PEERS, pump(), s5cmd()), tls)),
            "large-parts": (
                "4 files of 1 GiB, proof parts",
                Copying(files.large, (polyb2(), _TUNED, pump()), tls, tells_parts=False),
            ),
            "memory": ("32 streams, parts of 64 MiB", Copying(files.large, _MEMORY, tls, tells_parts=False)),
            "small": ("5,000 files of 20 KB", Copying(files.small, (polyb2(), *_SMALL_PEERS), tls, by_file=True)),
            "mixed": ("a month of five datasets", Copying(files.mixed, (polyb2(), *_PEERS), tls)),
        }
        found += [Scenario(f"{name}-{way}", f"{title}, {over}", run) for name, (title, run) in made.items()]
    return found


def own_scenarios() -> list[Scenario]:
    """polyb2 beside itself: fixed settings where nothing throttles, and processes that share a ledger."""
    large = Copying(files.large, _FIXED)
    small = Copying(files.small, _FIXED, by_file=True)
    mixed = Copying(files.mixed, _CORES, tls=True, core=None)
    many = Copying(files.small, _CORES, by_file=True, core=None)
    return [
        Scenario("fixed-large", "4 files of 1 GiB at fixed settings, over HTTP", large),
        Scenario("fixed-small", "5,000 files of 20 KB at fixed settings, over HTTP", small),
        Scenario("cores-mixed", "a month of five datasets by processes on both cores, over TLS", mixed),
        Scenario("cores-small", "5,000 files of 20 KB by processes on both cores, over HTTP", many),
    ]


def line_scenarios() -> list[Scenario]:
    """Over the emulated line, HTTP and TLS each."""
    found = []
    for way, tls in (("http", False), ("tls", True)):
        over = f"60 ms and 1 Gbit/s, over {way.upper()}"
        of_32 = (polyb2(), pump(), _TUNED, rclone("rclone 4 x 8", _streams(4, 8, "16M")))
        small = (polyb2(), pump(), _AT_32)
        alone = (polyb2(), pump(), _TUNED, rclone("rclone 1 x 32", _streams(1, 32, "16M")))
        made = {
            "wan-large": ("4 files of 1 GiB", Copying(files.large, of_32, tls, line=LINE)),
            "wan-small": ("5,000 files of 20 KB", Copying(files.small, small, tls, by_file=True, line=LINE)),
            "wan-file": (
                "one file of 2 GiB",
                Copying(lambda scale: files.one(int(2 * files.GIB * scale)), alone, tls, line=LINE),
            ),
        }
        found += [Scenario(f"{name}-{way}", f"{title}, {over}", run) for name, (title, run) in made.items()]
    return found
