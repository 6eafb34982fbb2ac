"""All scenarios, in the order of the report."""

from __future__ import annotations

from benchmarks.alone import alone_scenarios
from benchmarks.micro.commands import discovery, startup
from benchmarks.micro.digest import digest
from benchmarks.micro.fleet import fleet_ledger
from benchmarks.micro.ledger import ledger
from benchmarks.micro.presign import presign
from benchmarks.scenarios import Scenario, copying_scenarios, line_scenarios, own_scenarios
from benchmarks.throttled import throttled_scenarios


def all_scenarios() -> list[Scenario]:
    return [
        *copying_scenarios(),
        *own_scenarios(),
        *line_scenarios(),
        *throttled_scenarios(),
        *_steps(),
        *alone_scenarios(),
    ]


def _steps() -> list[Scenario]:
    return [
        Scenario("micro-ledger", "The ledger by its size", ledger),
        Scenario("fleet-ledger", "A fleet on one ledger", fleet_ledger),
        Scenario("micro-digest", "Hashing", digest),
        Scenario("micro-presign", "Presigning", presign),
        Scenario("micro-discovery", "Discovery of 100,000 keys", discovery),
        Scenario("micro-startup", "Starting the commands", startup),
    ]
