"""The composition root: settings in, a working mirror out; and the root tasks of a run, supervised.

One event loop. The root tasks are the pool, the sweeper of abandoned uploads, the watch over the ledger's files and,
for ``sync`` and ``--watch``, the discovery: if one dies, all stop, and the rows in hand go back to the queue. The
health page and the notifications surround them, each with tasks of its own. SIGTERM, SIGHUP and SIGINT drain; a
second signal, at least a second later, stops at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from polyb2 import __version__, descriptors
from polyb2.clock import Clock
from polyb2.config import Settings
from polyb2.core.errors import AccountStoppedError, LedgerError, RemoteError, Scope, Side
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.retry import TIMING, Timing
from polyb2.core.schedule import NO_LIMIT
from polyb2.core.selection import Selection
from polyb2.core.units import format_duration
from polyb2.flow.discover.consent import Consent, discover
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.findings import Report
from polyb2.flow.discover.watch import Watch
from polyb2.flow.inspect.entitlement import probe_listing, probe_reading
from polyb2.flow.mirror import DRAINING, Mirror
from polyb2.flow.rounds import Rounds
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.diagnosis import Diagnosis, Probe
from polyb2.flow.run.lease import Lease
from polyb2.flow.run.pool import Outcome, Pool
from polyb2.flow.run.settle import Settlement, SettlementRules
from polyb2.flow.transfer.leftovers import abort_all_abandoned
from polyb2.notify.run_notifier import ObservedRun, RunNotifier, notifying
from polyb2.process import spared_collector
from polyb2.session import open_mirror
from polyb2.signals import STOPPING, answering

log = logging.getLogger(__name__)
DISCOVER_AGAIN_LIMIT_S = 60.0
GONE_SHOWN_S = 2.0
"""Seconds for which the page still reports that the ledger is gone: probes ask about once a second."""
STOPPING_LEDGER_S = 5.0
"""Seconds that a process which is asked to stop waits for a ledger that cannot be used."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The task of ``run`` and ``sync``.

    Attributes:
        selection: the files to discover (``sync``); None discovers nothing at the start.
        watch: stay up and discover on a schedule.
        limit: claims after which to end.
        consent: the plans that may be queued without asking.
        on_start: called with the objects that a progress display reads, before the work begins.
    """

    selection: Selection | None
    watch: bool
    limit: int | None
    consent: Consent
    on_start: Callable[[Mirror, CircuitBreaker], None] = lambda _mirror, _breaker: None


@dataclass(slots=True)
class RunResult:
    """The result of a run: outcome of the pool, discovery's report, the signal that ended it, duration of the work."""

    outcome: Outcome = field(default_factory=Outcome)
    report: Report | None = None
    signal: int | None = None
    seconds: float = 0.0


async def run(
    settings: Settings, options: RunOptions, clock: Clock | None = None, timing: Timing = TIMING
) -> RunResult:
    """Drain the queue (and feed it, where the options say so) until there is nothing left to wait for.

    Raises:
        AccountStoppedError: keys, cap, or an outage past ``POLYB2_GIVE_UP``.
        UsageError: settings, ledger or selection are unusable.
    """
    settings, draining, revised = _fitting(settings), asyncio.Event(), list[str]()
    retry = _Patience(draining, inf if options.watch else settings.run.give_up_s)
    async with open_mirror(
        settings, clock, timing=timing, draining=draining, retry=retry, on_revised=revised.append
    ) as mirror:
        with spared_collector():
            return await _Run(settings, options, mirror, revised).supervise()


class _Patience:
    """Tells if the run goes on: a ledger that cannot be used ends it no sooner than an outage of a side does."""

    def __init__(self, draining: asyncio.Event, give_up_s: float) -> None:
        self._draining = draining
        self._give_up_s = give_up_s
        self._is_over = False

    def __call__(self, _error: LedgerError, waited_s: float) -> bool:
        if not self._draining.is_set():
            return waited_s < self._give_up_s
        # Once for all: what a process still writes as it ends is not waited for one after the other.
        self._is_over = self._is_over or waited_s >= STOPPING_LEDGER_S
        return not self._is_over


def _fitting(settings: Settings) -> Settings:
    """The settings, with no more slots than the limit of open files allows once it is raised as far as possible."""
    files, wanted = descriptors.raise_limit(), settings.run.concurrency
    streams = descriptors.slots_that_fit(files)
    if wanted <= streams:
        return settings
    log.warning(
        "this process may have %d files open, which is enough for %d of the %d streams of --concurrency; "
        "for all of them raise the limit (ulimit -n)",
        files, streams, wanted,
    )  # fmt: skip
    return settings.model_copy(update={"run": settings.run.model_copy(update={"concurrency": streams})})


class _Run:
    """The root tasks of one process."""

    def __init__(self, settings: Settings, options: RunOptions, mirror: Mirror, revised: list[str]) -> None:
        self._settings = settings
        self._options = options
        self._mirror = mirror
        self._result = RunResult()
        self._working: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._discovering = options.selection is not None or options.watch
        probes: dict[Side, Probe] = {
            Side.SOURCE: partial(probe_reading, mirror.source),
            Side.TARGET: partial(probe_listing, mirror.target),
        }
        timing, give_up_s = mirror.timing, settings.run.give_up_s
        diagnosis = Diagnosis(probes, timing)
        self._breaker = CircuitBreaker(diagnosis, timing, give_up_s=give_up_s, for_ever=options.watch)
        lease = self._new_lease()
        self._rounds = Rounds(mirror.ledger, lease, timing.round_poll_s)
        self._pool = self._new_pool(diagnosis, lease)
        self._observed = self._observed_run(revised)
        self._notifier = RunNotifier(self._observed)
        self._watch = Watch(
            mirror,
            self._rounds,
            self._datasets(),
            options.consent,
            settings.discovery.poll_interval_s,
            on_queued=self._pool.wake.set,
            on_cycle=self._notifier.cycle,
        )

    def _datasets(self) -> tuple[str, ...]:
        """The datasets of the watch: those of the command line, which replace those of the settings."""
        chosen = self._options.selection.datasets if self._options.selection else ()
        return chosen or self._settings.discovery.datasets

    def _new_lease(self) -> Lease:
        mirror, ours, limits = self._mirror, self._settings.ledger, self._settings.limits
        return Lease(
            mirror.ledger,
            ours.worker_id,
            ours.lease_s,
            host=socket.gethostname(),
            is_limited=bool(limits.source_rps or limits.target_rps) or limits.bandwidth != NO_LIMIT,
            use_share=mirror.use_share,
        )

    def _new_pool(self, diagnosis: Diagnosis, lease: Lease) -> Pool:
        settings, mirror = self._settings, self._mirror
        consent = self._options.consent
        agreed_bytes = None if consent.given else consent.max_bytes
        rules = SettlementRules(settings.run.max_retries, settings.run.retry_base_s, agreed_bytes)
        return Pool(
            mirror,
            lease,
            self._breaker,
            Settlement(mirror, lease.check, self._breaker, diagnosis, rules),
            lambda: self._discovering,
            drain_s=settings.run.drain_s,
            limit=self._options.limit,
        )

    async def supervise(self) -> RunResult:
        self._options.on_start(self._mirror, self._breaker)
        settings, streams = self._settings, self._settings.run.concurrency
        started = {"worker_id": settings.ledger.worker_id, "concurrency": streams, "watch": self._options.watch}
        extra = log_fields(LogEvent.RUN_STARTED, version=__version__, **started)
        log.info("polyb2 %s, %d streams, ledger %s", __version__, streams, self._mirror.ledger.place, extra=extra)
        began_s = asyncio.get_running_loop().time()
        async with notifying(self._observed, self._notifier):
            result = await self._supervise()
            # Here: the last notifications, which the block's end waits for, are no part of the work.
            result.seconds = asyncio.get_running_loop().time() - began_s
        return result

    def _observed_run(self, revised: list[str]) -> ObservedRun:
        return ObservedRun(
            settings=self._settings,
            ledger=self._mirror.ledger,
            breaker=self._breaker,
            outcome=self._pool.outcome,
            stays_up=self._options.watch,
            problems=self._problems,
            signal=lambda: self._result.signal,
            revised=revised,
        )

    async def _supervise(self) -> RunResult:
        with _signals(self._on_signal):
            async with self._serving():
                try:
                    async with asyncio.TaskGroup() as roots:
                        sweeper = roots.create_task(self._sweep_now_and_then(), name="sweeper")
                        self._beside.append(sweeper)
                        if self._discovering:
                            self._beside.append(roots.create_task(self._discover(), name="discovery"))
                        watching = roots.create_task(self._mirror.ledger.watch(), name="ledger watch")
                        self._working = roots.create_task(self._work(sweeper, watching), name="pool")
                except* Exception as group:  # noqa: BLE001 - unwrapped, not handled
                    await self._show_that_ledger_is_gone()
                    error = self._mirror.ledger.gone or _first(group)
                    if not (self._mirror.draining.is_set() and isinstance(error, LedgerError) and error.may_pass):
                        raise error from None
                    # The signal is why it ends; what is claimed is free when the lease runs out.
                    log.warning("stopping without the ledger: %s", error, extra=log_fields(LogEvent.LEDGER_WAITING))
        if self._mirror.ledger.gone is not None:  # noticed by the last write of a run that was ending
            raise self._mirror.ledger.gone
        return self._result

    async def _show_that_ledger_is_gone(self) -> None:
        """Let probes of ``/readyz`` see the reason before the process ends; a signal ends the wait."""
        error = self._mirror.ledger.gone
        if error is None or not self._settings.page.address:
            return
        log.error("stopping, as the ledger is gone", extra=log_fields(LogEvent.LEDGER_GONE))
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_SHOWN_S):
                await self._mirror.draining.wait()

    async def _work(self, *beside: asyncio.Task[Any]) -> None:
        self._result.outcome = self._pool.outcome
        try:
            await self._pool.run()
        finally:
            for task in beside:
                task.cancel()
        if not self._mirror.draining.is_set():
            await self._sweep()

    async def _discover(self) -> None:
        try:
            if self._options.watch:
                await self._watch.run(self._options.selection)
            elif self._options.selection is not None:
                self._result.report = await self._discover_once(self._options.selection)
        finally:
            self._discovering = False
            self._pool.wake.set()

    async def _discover_once(self, selection: Selection) -> Report:
        """Discover, waiting for a side that is away as the workers do.

        Raises:
            RemoteError: waiting does not cure it.
            AccountStoppedError: it lasted longer than ``POLYB2_GIVE_UP``.
        """
        loop = asyncio.get_running_loop()
        give_up_s, wait_s = loop.time() + self._settings.run.give_up_s, self._mirror.timing.listing_first_s
        while True:
            losses = self._mirror.ledger.losses
            try:
                report = await discover(Discovery(self._mirror, selection), self._options.consent, self._pool.wake.set)
                if self._mirror.ledger.losses == losses:
                    return report
                continue  # some of what was queued may be lost
            except RemoteError as error:
                if error.handling.scope is Scope.ACCOUNT or not error.handling.cured_by_retry:
                    raise
                left_s = give_up_s - loop.time()
                if left_s <= 0:
                    waited = format_duration(self._settings.run.give_up_s)
                    raise AccountStoppedError(f"gave up after {waited}: {error}") from None
                log.warning("discovery failed, the next try is in %s: %s", format_duration(wait_s), error)
            await asyncio.sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, DISCOVER_AGAIN_LIMIT_S)

    async def _sweep_now_and_then(self) -> None:
        """Sweep, and again after a while; of the watches on the ledger one at a time does it for all."""
        sweep_s = self._mirror.timing.sweep_s
        if self._options.watch:
            await self._rounds.repeat("sweep", self._sweep, sweep_s)
        while True:
            await self._sweep()
            await asyncio.sleep(sweep_s)

    async def _sweep(self) -> None:
        """Abort uploads whose abort failed when they were given up; the next sweep, or a later run, tries again."""
        try:
            await abort_all_abandoned(self._mirror)
        except RemoteError as error:
            log.warning("abandoned uploads could not be aborted yet: %s", error, extra=log_fields(LogEvent.UPLOAD_LEFT))

    def _serving(self) -> AbstractAsyncContextManager[None]:
        """Serve health, metrics and the page; loading them takes 4 MB and a tenth of the start, saved if they are off."""
        settings = self._settings
        if not settings.page.address:
            return nullcontext()
        from polyb2.web.server import serve  # noqa: PLC0415
        from polyb2.web.snapshot import Observed  # noqa: PLC0415

        observed = Observed(self._mirror, self._datasets(), lambda: self._discovering, self._problems)
        return serve(settings.page.address, observed, settings.page.hosts)

    def _problems(self) -> list[str]:
        ledger = self._mirror.ledger
        found = [str(error) for error in (ledger.gone, self._breaker.error, ledger.trouble) if error]
        if self._watch.problem is not None:
            found.append(f"discovery: {self._watch.problem}")
        if self._mirror.draining.is_set():
            found.append(DRAINING)
        return found

    def _on_signal(self, number: int) -> None:
        """The first signal drains: nothing new is listed or claimed. The second stops at once."""
        for task in self._beside:
            task.cancel()
        if self._result.signal is None:
            drain_s = self._settings.run.drain_s
            extra = log_fields(LogEvent.RUN_STOPPING, signal=number, seconds=drain_s)
            log.info("stopping: running parts may end within %.0f s", drain_s, extra=extra)
            self._mirror.draining.set()
        else:
            log.warning("stopping at once", extra=log_fields(LogEvent.RUN_STOPPING, signal=number, seconds=0))
            if self._working is not None:
                self._working.cancel()
        self._result.signal = number


@contextmanager
def _signals(handler: Callable[[int], None]) -> Iterator[None]:
    """Let ``handler`` take the signals, in the loop."""
    loop = asyncio.get_running_loop()
    with answering(lambda number: loop.call_soon_threadsafe(handler, number), *STOPPING, signal.SIGINT):
        yield


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first plain error of nested groups: the one that made the others stop."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)  # noqa: S101 - of a group of Exceptions
    return error
