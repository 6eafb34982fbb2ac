"""``/metrics`` for Prometheus: names and units by its conventions, from the engine's counters and the ledger's counts.

The HELP of each says whose figure it is: this process's, or the ledger's, which is the same at every process that shares it.
Nothing is registered with the library's process-wide registry. Where the ledger cannot be read, ``polyb2_ledger_readable``
is 0 and the ledger's own metrics are absent; the engine's are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from polyb2 import __version__
from polyb2.core.errors import LedgerError, Side
from polyb2.core.status import Status
from polyb2.ledger.status_report import StatusReport
from polyb2.meters import Histogram
from polyb2.web.snapshot import Recent, SingleFlight, Snapshot, Snapshots

OF_THIS_PROCESS = "Of this process."
OF_THE_LEDGER = "Of the ledger: the same at every process that shares it."
FORMATS_MAX = 16
"""Formats that are kept for a second; a scraper asks for one of two."""
_Key = TypeVar("_Key", bound=str | tuple[str, ...])
"""The value of the only label, or of all; Mapping is invariant in it."""


class Metrics:
    """The text of ``/metrics``, made once a second at most."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._process = ProcessCollector(registry=None)
        self._texts: dict[str, SingleFlight[bytes]] = {}

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that an ``Accept`` header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)

        async def make() -> bytes:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(await self._scrape())
            registry.register(self._process)
            return bytes(encode(registry))

        if content_type not in self._texts and len(self._texts) >= FORMATS_MAX:
            self._texts.clear()
        return await self._texts.setdefault(content_type, SingleFlight(make)).get(), content_type

    async def _scrape(self) -> Scrape:
        with suppress(LedgerError):
            current, recent = await self._snapshots.current.get(), await self._snapshots.recent.get_stale()
            return Scrape(self._snapshots, current, recent)
        return Scrape(self._snapshots, None, Recent())


@dataclass(frozen=True, slots=True, eq=False)
class Scrape(Collector):
    """One scrape: the engine's counters as they are, and the ledger as it was read before; None where it could not be."""

    snapshots: Snapshots
    snapshot: Snapshot | None
    recent: Recent

    def collect(self) -> Iterator[Metric]:
        own, shared = (self._process(), self._limits(), self._counters()), (self._ledger(),)
        for groups, whose in ((own, OF_THIS_PROCESS), (shared, OF_THE_LEDGER)):
            for family in chain(*groups):
                family.documentation = f"{family.documentation} {whose}"
                yield family

    def _ledger(self) -> Iterator[Metric]:
        if self.snapshot is not None:
            yield from self._queue(self.snapshot)
            yield from self._runners(self.snapshot.report)
            if self.snapshots.observed.discovers():
                words = (
                    "When the source was last listed with success, 0 for not yet; absent where this one lists nothing."
                )
                found = {(): self.snapshot.discovered_ms / 1000}
                yield _gauge("polyb2_discovery_last_success_timestamp_seconds", words, [], found)
        words = "For how long the oldest due day of the last thirty has been lacking; 0 where none lacks."
        yield _gauge("polyb2_completeness_lag_seconds", words, ["dataset"], self.recent.lags_s)

    def _process(self) -> Iterator[Metric]:
        observed, is_read = self.snapshots.observed, self.snapshot is not None
        yield _gauge("polyb2_build_info", "The running version.", ["version"], {__version__: 1})
        is_ready = not observed.problems()
        yield _gauge("polyb2_ready", "1 while nothing is in the way of work; /readyz says what is.", [], {(): is_ready})
        yield _gauge("polyb2_ledger_readable", "Whether the ledger could be read just now.", [], {(): is_read})
        count = len(observed.mirror.in_flight)
        yield _gauge("polyb2_files_in_flight", "Files that this process works on.", [], {(): count})

    def _limits(self) -> Iterator[Metric]:
        mirror = self.snapshots.observed.mirror
        busy, allowed = dict.fromkeys(Side, mirror.slots.busy), dict.fromkeys(Side, mirror.slots.total)
        yield _gauge("polyb2_streams_in_use", "Streams, one request to each side, that are busy.", ["side"], busy)
        yield _gauge("polyb2_streams_allowed", "Streams that may be busy at once.", ["side"], allowed)
        limits = {guard.side: guard.per_second for guard in (mirror.source.guard, mirror.target.guard)}
        yield _gauge(
            "polyb2_requests_allowed_per_second",
            "Requests a side is asked at most, by a share of the settings or because it throttles; absent without a limit.",
            ["side"],
            {side: limit for side, limit in limits.items() if limit is not None},
        )
        words = "The share of POLYB2_MAX_BANDWIDTH at this time of the day; absent where nothing limits it."
        per_second = mirror.bandwidth.per_second
        bandwidth = {} if per_second is None else {(): per_second}
        yield _gauge("polyb2_bandwidth_allowed_bytes_per_second", words, [], bandwidth)

    def _counters(self) -> Iterator[Metric]:
        meters = self.snapshots.observed.mirror.meters
        words = "From the source's answer to the target's, for parts and small files."
        yield _histograms("polyb2_part_duration_seconds", words, ["dataset"], meters.part_seconds)
        words = "From a claim to its completion."
        yield _histograms("polyb2_file_duration_seconds", words, ["dataset"], meters.file_seconds)
        words = "Until an answer began."
        yield _histograms("polyb2_first_byte_seconds", words, ["side", "operation"], meters.answer_seconds)
        yield _counter("polyb2_attempts", "Claims that ended, by outcome.", ["dataset", "outcome"], meters.attempts)
        yield _counter("polyb2_request_errors", "Tries of requests that failed.", ["side", "kind"], meters.errors)
        yield _counter("polyb2_request_retries", "Tries after one that failed.", ["side"], meters.retries)
        yield _counter("polyb2_lease_losses", "Leases that ran out under their worker.", [], {(): meters.leases_lost})
        words = "Bytes that came in from the source, failed tries among them, and bytes made durable in the target."
        yield _counter("polyb2_transferred_bytes", words, ["dataset", "side"], self._bytes())

    def _bytes(self) -> dict[tuple[str, str], float]:
        read, stored = self.snapshots.read_bytes(), self.snapshots.observed.mirror.meters.stored_bytes
        # A rate needs a zero to begin with, also of a dataset of which nothing was transferred yet.
        known = sorted({*(self.snapshot.report.datasets if self.snapshot else ()), *read, *stored})
        sides = ((Side.SOURCE, read), (Side.TARGET, stored))
        return {(dataset, side): counts[dataset] for dataset in known for side, counts in sides}

    @staticmethod
    def _queue(snapshot: Snapshot) -> Iterator[Metric]:
        tallies, labels = snapshot.report.datasets.items(), ["dataset", "status"]
        files = {(name, status): tally.by_status[status]["files"] for name, tally in tallies for status in Status}
        size = {(name, status): tally.by_status[status]["bytes"] for name, tally in tallies for status in Status}
        yield _gauge("polyb2_queue_files", "Files of the ledger.", labels, files)
        yield _gauge("polyb2_queue_bytes", "Bytes of these files.", labels, size)
        since_ms, now_ms = snapshot.waiting_since_ms, snapshot.now_ms
        ages_s = {name: max(0, now_ms - since_ms.get(name, now_ms)) / 1000 for name, _ in tallies}
        words = "For how long the oldest waiting file waits; 0 if none does."
        yield _gauge("polyb2_queue_oldest_age_seconds", words, ["dataset"], ages_s)

    @staticmethod
    def _runners(report: StatusReport) -> Iterator[Metric]:
        runners, name = report.runners, ["worker_id"]
        yield _gauge("polyb2_runners", "Processes at work, of all hosts.", [], {(): len(runners)})
        words = "Bytes of receipts a second over the last minute, of all processes at work; 0 before the first."
        yield _gauge("polyb2_runners_bytes_per_second", words, [], {(): report.rate_bytes_per_s or 0})
        found = {(runner.worker_id, runner.host, runner.version): 1 for runner in runners}
        yield _gauge("polyb2_runner_info", "A process at work.", [*name, "host", "version"], found)
        starts_s = {runner.worker_id: runner.started_ms / 1000 for runner in runners}
        yield _gauge("polyb2_runner_start_timestamp_seconds", "When it began.", name, starts_s)
        rates = {runner.worker_id: runner.rate_bytes_per_s or 0 for runner in runners}
        yield _gauge(
            "polyb2_runner_bytes_per_second", "Its bytes of receipts a second over the last minute.", name, rates
        )
        busy = {runner.worker_id: runner.streams_in_use or 0 for runner in runners}
        yield _gauge("polyb2_runner_streams_in_use", "Its busy streams, as of its last renewal.", name, busy)
        allowed = {runner.worker_id: runner.streams_allowed or 0 for runner in runners}
        yield _gauge("polyb2_runner_streams_allowed", "Its streams that may be busy at once.", name, allowed)


def _gauge(name: str, words: str, labels: list[str], samples: Mapping[_Key, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, words, labels=labels), samples)


def _counter(name: str, words: str, labels: list[str], samples: Mapping[_Key, float]) -> Metric:
    return _filled(CounterMetricFamily(name, words, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Mapping[_Key, float]) -> Metric:
    for values, value in samples.items():
        family.add_metric(_labels(values), float(value))
    return family


def _histograms(name: str, words: str, labels: list[str], samples: Mapping[_Key, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, words, labels=labels)
    for values, histogram in samples.items():
        bounds = [*map(str, histogram.bounds), "+Inf"]
        counts = map(float, accumulate(histogram.counts))
        family.add_metric(_labels(values), list(zip(bounds, counts, strict=True)), histogram.total)
    return family


def _labels(values: str | tuple[str, ...]) -> list[str]:
    return [values] if isinstance(values, str) else [*values]
