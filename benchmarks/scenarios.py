"""The scenarios that compare clients: which files, which conditions, which clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import files
from benchmarks.certificates import Certificates
from benchmarks.clients import Client, available, copier, polyb2, rclone, s5cmd
from benchmarks.pair import Conditions, open_pair
from benchmarks.rounds import alternate
from benchmarks.tables import commands, comparison

_AT_32 = {
    "--transfers": "4",
    "--s3-upload-concurrency": "8",
    "--s3-chunk-size": "64M",
    "--multi-thread-streams": "8",
    "--s3-use-unsigned-payload": "true",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        rounds: that count, after the warm-up.
        scale: 1 is full size.
        certificates: for the scenarios over TLS.
        folder: for what a run leaves behind; removed afterwards.
        only: names of clients to leave out all others; empty is all.
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
    """

    make_files: Callable[[float], files.Files]
    clients: Sequence[Client]
    tls: bool = False
    tells_parts: bool = True
    by_file: bool = False

    def __call__(self, options: Options) -> str:
        conditions = Conditions(
            self.make_files(options.scale), options.certificates if self.tls else None, tells_parts=self.tells_parts
        )
        with open_pair(conditions) as pair:
            series = alternate(pair, options.chosen(self.clients), options.rounds)
        shown = comparison(series, conditions.total_bytes, len(conditions.files), by_file=self.by_file)
        servers = max(one.median(lambda run: run.server_cpu_s / run.cost.wall_s) for one in series)
        return (
            f"{len(conditions.files)} files, {conditions.total_bytes / files.GIB:.2f} GiB; medians of {options.rounds} "
            f"rounds after a warm-up. The servers' core was busy at most {servers:.0%} of a client's time.\n\n"
            f"{shown}\n\n{commands(series)}"
        )


_PEERS = (
    rclone(),
    rclone("rclone defaults", {}),
    copier("obstore", "obstore_copy"),
    copier("boto3", "boto3_copy"),
    s5cmd(),
)
_SMALL_PEERS = (
    rclone(),
    rclone("rclone 32", {"--transfers": "32", "--checkers": "32", "--s3-use-unsigned-payload": "true"}),
    rclone("rclone defaults", {}),
    copier("obstore", "obstore_copy", 32),
    copier("boto3", "boto3_copy", 32),
)
_MEMORY = (polyb2(32, "polyb2", POLYB2_PART_SIZE="64MiB"), rclone("rclone 4 x 8 x 64M", _AT_32))


def copying_scenarios() -> list[Scenario]:
    """Over HTTP and TLS each."""
    found = []
    for way, tls in (("http", False), ("tls", True)):
        over = f"over {way.upper()}"
        made = {
            "large": ("4 files of 1 GiB, proof etag", Copying(files.large, (polyb2(), *_PEERS), tls)),
            "large-parts": (
                "4 files of 1 GiB, proof parts",
                Copying(files.large, (polyb2(), rclone()), tls, tells_parts=False),
            ),
            "memory": ("32 streams, parts of 64 MiB", Copying(files.large, _MEMORY, tls, tells_parts=False)),
            "small": ("5,000 files of 20 KB", Copying(files.small, (polyb2(), *_SMALL_PEERS), tls, by_file=True)),
            "mixed": ("a month of five datasets", Copying(files.mixed, (polyb2(), *_PEERS[:-1]), tls)),
        }
        found += [Scenario(f"{name}-{way}", f"{title}, {over}", run) for name, (title, run) in made.items()]
    return found
