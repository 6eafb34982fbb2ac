"""A service that answers 503 above its limit: how much of what it allows is used, and how much is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks import files
from benchmarks.clients import polyb2, rclone
from benchmarks.pair import Conditions, open_pair
from benchmarks.rounds import BenchmarkError, Run, run_once, say
from benchmarks.scenarios import Options, Scenario
from benchmarks.server.throttle import BURST_S
from benchmarks.tables import table, wall_s

REQUESTS_PER_S = 100
BYTES_PER_S = 100_000_000
BYTES_PART = "8MiB"
"""Small enough for a share of refused requests to mean something: 512 parts in all."""
PATIENCE_S = 300.0
"""Some ten times what the limits allow."""
_FIXED = (2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Throttled:
    """Both sides with the same limit; polyb2 at several settings, each once.

    Attributes:
        small: small files, else large ones.
        limits: see ``Conditions``.
    """

    small: bool
    limits: dict[str, float] = field(default_factory=dict)

    def __call__(self, options: Options) -> str:
        wanted = files.small(options.scale * 0.4) if self.small else files.large(options.scale)
        clients = [polyb2(number, f"polyb2 {number}", POLYB2_PART_SIZE=BYTES_PART) for number in _FIXED]
        clients.append(rclone("rclone 32", {"--transfers": "32", "--checkers": "32"}))
        rows = []
        with open_pair(Conditions(wanted, limits=self.limits)) as pair:
            for client in options.chosen(clients):
                say(f"  {client.name}")
                try:
                    rows.append([client.name, *self._figures(run_once(pair, client, limit_s=PATIENCE_S))])
                except BenchmarkError as error:
                    rows.append([f"{client.name}: failed", *[""] * 5])
                    say(f"  {error}")
        what = ", ".join(f"{limit:,.0f} {name.replace('_per_s', ' a second')}" for name, limit in self.limits.items())
        shown = table(["client", "wall s", *(f"{side}: {it}" for side in ("source", "target") for it in _SHARES)], rows)
        return (
            f"{len(wanted)} files of {sum(size for _, size in wanted) / 1e6:.0f} MB in all; each side lets {what} pass. "
            f"Each client once.\n\n{shown}\n\n    {clients[0].shown}  (and so on)"
        )

    def _figures(self, run: Run) -> list[str]:
        return [f"{wall_s(run):.1f}", *self._shares(run.source["throttle"]), *self._shares(run.target["throttle"])]

    def _shares(self, seen: dict[str, Any]) -> list[str]:
        """What passed of what was allowed in the time from the first request to the last, and what was refused."""
        passed = {"requests_per_s": seen["accepted"], "bytes_per_s": seen["bytes"]}
        used = [passed[name] / (limit * (seen["seconds"] + BURST_S)) for name, limit in self.limits.items()]
        return [f"{max(used):.1%}", f"{seen['refused'] / max(1, seen['refused'] + seen['accepted']):.1%}"]


_SHARES = ("used of allowed", "refused")


def throttled_scenarios() -> list[Scenario]:
    return [
        Scenario(
            "throttle-requests", "A limit on requests", Throttled(small=True, limits={"requests_per_s": REQUESTS_PER_S})
        ),
        Scenario("throttle-bytes", "A limit on bytes", Throttled(small=False, limits={"bytes_per_s": BYTES_PER_S})),
    ]
