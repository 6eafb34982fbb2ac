"""``/metrics`` for Prometheus: names and units by its conventions, from the engine's counters and the ledger's counts.

Nothing is registered with the library's process-wide registry. A ledger that cannot be read takes its own metrics away and
says so by ``polyb2_ledger_readable``; the engine's stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate, chain

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from polyb2 import __version__
from polyb2.core.errors import LedgerError, Side
from polyb2.core.status import Status
from polyb2.meters import Histogram, Meters
from polyb2.web.sharing import Shared
from polyb2.web.sight import Picture, Recent, Sight

ACCEPTED_MAX = 16
"""Kinds of answers that are kept for a second; a scraper asks for one of two."""
DATASET = ["dataset"]
SIDE = ["side"]


class Metrics:
    """The text of ``/metrics``, made once a second at most."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._registry = CollectorRegistry(auto_describe=False)
        self._collector = _Collector(sight)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)
        self._texts: dict[str, Shared[bytes]] = {}

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that an ``Accept`` header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)

        async def make() -> bytes:
            await self._collector.look()
            return bytes(encode(self._registry))

        if content_type not in self._texts and len(self._texts) >= ACCEPTED_MAX:
            self._texts.clear()
        return await self._texts.setdefault(content_type, Shared(make)).get(), content_type


class _Collector(Collector):
    """Translates; :meth:`look` reads the ledger beforehand, as collecting cannot wait."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._picture: Picture | None = None
        self._recent = Recent()

    async def look(self) -> None:
        self._picture, self._recent = None, Recent()
        with suppress(LedgerError):
            self._picture, self._recent = await self._sight.picture(), await self._sight.recent()

    def collect(self) -> Iterator[Metric]:
        counted = _counted(self._sight.subject.mirror.meters)
        yield from chain(self._state(), self._streams(), self._limits(), counted, self._bytes())
        yield from chain(self._queue(self._picture) if self._picture else (), self._completeness())

    def _state(self) -> Iterator[Metric]:
        subject = self._sight.subject
        build = GaugeMetricFamily("polyb2_build_info", "The running version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield _gauge(
            "polyb2_ready", "1 while nothing is in the way of work; /readyz says what is.", not subject.problems()
        )
        yield _gauge("polyb2_ledger_readable", "Whether the ledger could be read just now.", self._picture is not None)
        yield _gauge("polyb2_files_in_flight", "Files that this process works on.", len(subject.mirror.in_flight))
        if subject.discovers() and self._picture is not None:
            yield _gauge(
                "polyb2_discovery_last_success_timestamp_seconds",
                "When the source was last listed with success, 0 for not yet; absent where this process does not list it.",
                self._picture.discovered_ms / 1000,
            )

    def _streams(self) -> Iterator[Metric]:
        streams = self._sight.subject.mirror.slots
        in_use = GaugeMetricFamily(
            "polyb2_streams_in_use", "Streams, one request to each side, that are busy.", labels=SIDE
        )
        allowed = GaugeMetricFamily("polyb2_streams_allowed", "Streams that may be busy at once.", labels=SIDE)
        for side in Side:
            in_use.add_metric([side], streams.busy)
            allowed.add_metric([side], streams.total)
        yield from (in_use, allowed)

    def _limits(self) -> Iterator[Metric]:
        mirror = self._sight.subject.mirror
        requests = GaugeMetricFamily(
            "polyb2_requests_allowed_per_second",
            "Requests a side is asked at most, by the settings or because it throttles; absent where nothing limits them.",
            labels=SIDE,
        )
        for guard in (mirror.source.guard, mirror.target.guard):
            if (per_second := guard.per_second) is not None:
                requests.add_metric([guard.side], per_second)
        bandwidth = GaugeMetricFamily(
            "polyb2_bandwidth_allowed_bytes_per_second",
            "POLYB2_MAX_BANDWIDTH at this time of the day; absent where nothing limits it.",
        )
        if mirror.bandwidth.per_second:
            bandwidth.add_metric([], mirror.bandwidth.per_second)
        yield from (requests, bandwidth)

    def _bytes(self) -> Iterator[Metric]:
        moved = CounterMetricFamily(
            "polyb2_transferred_bytes",
            "Bytes that came in from the source, failed tries among them, and bytes made durable in the target.",
            labels=["dataset", "side"],
        )
        read, stored = self._sight.read_bytes(), self._sight.subject.mirror.meters.stored_bytes
        # A rate needs a zero to begin with, also where nothing gets through.
        known = self._picture.report.datasets if self._picture else ()
        for dataset in sorted({*known, *read, *stored}):
            moved.add_metric([dataset, Side.SOURCE], read[dataset])
            moved.add_metric([dataset, Side.TARGET], stored[dataset])
        yield moved

    @staticmethod
    def _queue(picture: Picture) -> Iterator[Metric]:
        files = GaugeMetricFamily("polyb2_queue_files", "Files of the ledger.", labels=["dataset", "status"])
        size = GaugeMetricFamily("polyb2_queue_bytes", "Bytes of these files.", labels=["dataset", "status"])
        oldest = GaugeMetricFamily(
            "polyb2_queue_oldest_age_seconds",
            "For how long the oldest waiting file waits; 0 if none does.",
            labels=DATASET,
        )
        for dataset, tally in picture.report.datasets.items():
            for status in Status:
                files.add_metric([dataset, status], tally.by_status[status]["files"])
                size.add_metric([dataset, status], tally.by_status[status]["bytes"])
            since_ms = picture.waiting_since_ms.get(dataset, picture.now_ms)
            oldest.add_metric([dataset], max(0, picture.now_ms - since_ms) / 1000)
        yield from (files, size, oldest)

    def _completeness(self) -> Iterator[Metric]:
        lags = GaugeMetricFamily(
            "polyb2_completeness_lag_seconds",
            "For how long the oldest due day of the last thirty has been lacking; 0 where none lacks.",
            labels=DATASET,
        )
        for dataset, lag_s in self._recent.lags_s.items():
            lags.add_metric([dataset], lag_s)
        yield lags


def _counted(meters: Meters) -> Iterator[Metric]:
    yield _histograms(
        "polyb2_part_duration_seconds",
        "From the source's answer to the target's, for parts and small files.",
        DATASET,
        (([dataset], histogram) for dataset, histogram in meters.part_seconds.items()),
    )
    yield _histograms(
        "polyb2_file_duration_seconds",
        "From a claim to its completion.",
        DATASET,
        (([dataset], histogram) for dataset, histogram in meters.file_seconds.items()),
    )
    yield _histograms(
        "polyb2_first_byte_seconds",
        "Until an answer began.",
        ["side", "operation"],
        (([side, operation], histogram) for (side, operation), histogram in meters.answer_seconds.items()),
    )
    yield _counter("polyb2_attempts", "Claims that ended, by outcome.", ["dataset", "outcome"], meters.attempts.items())
    yield _counter("polyb2_request_errors", "Tries of requests that failed.", ["side", "kind"], meters.errors.items())
    retries = [((side,), count) for side, count in meters.retries.items()]
    yield _counter("polyb2_request_retries", "Tries after one that failed.", SIDE, retries)
    yield _counter("polyb2_lease_losses", "Leases that ran out under their worker.", [], [((), meters.leases_lost)])


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=float(value))


def _counter(name: str, words: str, labels: list[str], counts: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = CounterMetricFamily(name, words, labels=labels)
    for values, count in counts:
        family.add_metric(list(values), count)
    return family


def _histograms(name: str, words: str, labels: list[str], found: Iterable[tuple[list[str], Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, words, labels=labels)
    for values, histogram in found:
        bounds = [*map(str, histogram.bounds), "+Inf"]
        counts = map(float, accumulate(histogram.counts))
        family.add_metric(values, list(zip(bounds, counts, strict=True)), histogram.total)
    return family
