"""Clients in turn on the same servers: a warm-up that is not counted, then rounds, each beginning with another client."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.clients import LEDGER, Client
from benchmarks.pair import Pair
from benchmarks.processes import CLIENT_CORE, LIMIT_S, Cost, Sampling, run_client

GIB = 1 << 30
_TAIL = 2000


class BenchmarkError(Exception):
    """A client failed, or did not copy what it should have."""


@dataclass(frozen=True, slots=True)
class Run:
    """One client, once."""

    cost: Cost
    source: dict[str, Any]
    target: dict[str, Any]
    server_cpu_s: float
    proofs: Mapping[str, int]
    """How polyb2 proved its files, by ``verification``; empty for the others."""

    @property
    def requests(self) -> int:
        """Of both sides, as they counted them."""
        counts: list[dict[str, int]] = [self.source["requests"], self.target["requests"]]
        return sum(sum(count.values()) for count in counts)


@dataclass(frozen=True, slots=True)
class Series:
    """All counted runs of one client."""

    client: Client
    runs: Sequence[Run]

    def median(self, figure: Callable[[Run], float]) -> float:
        return median(figure(run) for run in self.runs)

    def range(self, figure: Callable[[Run], float]) -> tuple[float, float]:
        values = [figure(run) for run in self.runs]
        return min(values), max(values)


def alternate(pair: Pair, clients: Sequence[Client], rounds: int, *, core: int | None = CLIENT_CORE) -> list[Series]:
    """Let every client copy everything, ``rounds`` times after a warm-up.

    Raises:
        BenchmarkError: a client failed, or the target does not have the source's bytes.
    """
    runs: dict[str, list[Run]] = {client.name: [] for client in clients}
    for number in range(rounds + 1):
        turn = number % len(clients)
        for client in (*clients[turn:], *clients[:turn]):
            run = run_once(pair, client, core=core)
            say(f"  {'warm-up' if number == 0 else number}: {client.name}: {run.cost.wall_s:.2f} s")
            if number:
                runs[client.name].append(run)
    return [Series(client, runs[client.name]) for client in clients]


def run_once(
    pair: Pair,
    client: Client,
    *,
    core: int | None = CLIENT_CORE,
    sampling: Sampling | None = None,
    limit_s: float = LIMIT_S,
) -> Run:
    """Empty the target, let a client fill it, check what it holds.

    Raises:
        BenchmarkError: see :func:`alternate`.
    """
    pair.clear()
    with TemporaryDirectory() as name:
        folder = Path(name)
        started = client.prepare(pair, folder)
        before_s = pair.server_cpu_s
        cost = run_client(started.command, started.environment, folder, core=core, sampling=sampling, limit_s=limit_s)
        servers_s = pair.server_cpu_s - before_s
        proofs = _proofs(folder / LEDGER)
    source, target = pair.reports()
    if cost.code:
        raise BenchmarkError(f"{client.name} ended with {cost.code}: {cost.output[-_TAIL:]}")
    wanted = len(pair.conditions.files)
    if (target["objects"], target["identical"]) != (wanted, wanted):
        words = f"{target['objects']} files, {target['identical']} of them right, of {wanted}"
        raise BenchmarkError(f"{client.name} left {words}: {cost.output[-_TAIL:]}")
    return Run(cost, source, target, servers_s, proofs)


def _proofs(ledger: Path) -> Mapping[str, int]:
    if not ledger.exists():
        return {}
    with closing(sqlite3.connect(ledger)) as database:
        counted = "SELECT coalesce(verification, status), count(*) FROM files GROUP BY 1"
        return dict(database.execute(counted).fetchall())


def say(words: str) -> None:
    """Progress, beside the results."""
    print(words, file=sys.stderr, flush=True)
