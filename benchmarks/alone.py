"""polyb2 alone: what a very long file costs along its way, and what hours of work do to its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

from benchmarks import files
from benchmarks.clients import polyb2
from benchmarks.pair import Conditions, Pair, open_pair
from benchmarks.processes import Sample, Sampling
from benchmarks.rounds import run_once
from benchmarks.scenarios import Options, Scenario
from benchmarks.tables import MB, cpu_s, table, wall_s

HUGE_BYTES = 20 * files.GIB
SECTIONS = 10
SOAK_FILES_PER_S = 10
SOAK_LARGE_EVERY_S = 10
SOAK_LARGE_BYTES = 20 * files.MIB


@dataclass(frozen=True, slots=True)
class Huge:
    """One file of 20 GiB."""

    tls: bool

    def __call__(self, options: Options) -> str:
        size = int(HUGE_BYTES * options.scale)
        certificates = options.certificates if self.tls else None
        conditions = Conditions(files.one(size), certificates, primed=True)
        with open_pair(conditions) as pair:
            run = run_once(pair, polyb2(), sampling=Sampling(0.25, lambda: _copied(pair)))
        return (
            f"One file of {size / files.GIB:.2f} GiB, once, proof {', '.join(run.proofs)}: {wall_s(run):.1f} s, "
            f"{cpu_s(run) / size * files.GIB:.2f} CPU-s a GiB, peak {run.cost.peak_bytes / MB:.0f} MB. "
            f"Along its bytes:\n\n{_by_bytes(run.cost.samples, size)}\n\n    {polyb2().shown}"
        )


@dataclass(frozen=True, slots=True)
class Soak:
    """A steady stream of small files and some large ones, for an hour."""

    minutes: float = 60

    def __call__(self, options: Options) -> str:
        seconds = self.minutes * 60 * options.scale
        wanted = _soak_files(seconds)
        rate = sum(size for _, size in wanted) / seconds
        client = polyb2(32, "polyb2", "--max-bandwidth", str(int(rate)))
        with open_pair(Conditions(wanted)) as pair:
            run = run_once(pair, client, sampling=Sampling(max(0.1, seconds / 1000), lambda: _copied(pair)))
        return (
            f"{len(wanted)} files in {wall_s(run) / 60:.1f} minutes, {cpu_s(run):.0f} CPU-s, peak "
            f"{run.cost.peak_bytes / MB:.0f} MB. By tenths of the time:\n\n{_by_time(run.cost.samples)}\n\n    {client.shown}"
        )


def _copied(pair: Pair) -> int:
    taken: int = pair.target.ask("report")["taken_bytes"]
    return taken


def _by_bytes(samples: Sequence[Sample], size: int) -> str:
    """What each tenth took, from the first look at which the one before was over."""
    rows = []
    start = samples[0]
    for number in range(1, SECTIONS + 1):
        end = next((one for one in samples if one.copied_bytes >= size * number / SECTIONS), samples[-1])
        copied = (end.copied_bytes - start.copied_bytes) / files.GIB
        if copied:
            cpu = (end.cpu_s - start.cpu_s) / copied
            resident = max(one.resident_bytes for one in samples if start.at_s <= one.at_s <= end.at_s)
            rows.append([f"{end.copied_bytes / size:.0%}", f"{cpu:.2f}", f"{resident / MB:.0f}"])
        start = end
    return table(["up to", "CPU-s a GiB", "resident MB, at most"], rows)


def _by_time(samples: Sequence[Sample]) -> str:
    rows = []
    for number in range(SECTIONS):
        within = samples[len(samples) * number // SECTIONS : len(samples) * (number + 1) // SECTIONS]
        if within:
            resident = [sample.resident_bytes / MB for sample in within]
            rows.append([f"{number + 1}", f"{median(resident):.1f}", f"{max(resident):.1f}"])
    return table(["tenth", "resident MB, median", "at most"], rows)


def _soak_files(seconds: float) -> files.Files:
    """So many that they last, at the rate that :class:`Soak` allows."""
    many = max(1, int(seconds * SOAK_FILES_PER_S))
    names = (f"global_crypto/set{number % 40}_v1" for number in range(many))
    found = [
        (files.key(name, date(1990, 1, 1) + timedelta(days=number // 40)), files.SMALL_BYTES)
        for number, name in enumerate(names)
    ]
    large = (date(2000, 1, 1) + timedelta(days=day) for day in range(max(1, int(seconds / SOAK_LARGE_EVERY_S))))
    return found + [(files.key("us_stocks_sip/trades_v1", day), SOAK_LARGE_BYTES) for day in large]


def alone_scenarios() -> list[Scenario]:
    return [
        Scenario("huge-http", "One file of 20 GiB, over HTTP", Huge(tls=False)),
        Scenario("huge-tls", "One file of 20 GiB, over TLS", Huge(tls=True)),
        Scenario("soak", "An hour of work", Soak()),
    ]
