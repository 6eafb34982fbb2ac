"""The discovery coroutine of the long-running container: look back some days every interval, at everything once a day.

The daily full listing finds older files that were replaced; it never queues a date that nobody chose. A discovery that
fails is told once and tried again at the next interval: the workers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from polyb2.clock import Clock
from polyb2.core.errors import AccountStoppedError, LedgerBusyError, RemoteError, UsageError
from polyb2.core.selection import Mode, Selection, daily
from polyb2.flow.consent import Consent, discover
from polyb2.flow.discover import Discovery
from polyb2.flow.mirror import Mirror
from polyb2.ledger.binding import FULL_LISTING

log = logging.getLogger(__name__)
FULL_EVERY_MS = 24 * 3600 * 1000
LOOKBACK_DAYS = 7


@dataclass(slots=True)
class WatchState:
    """What `/readyz` tells of the discovery."""

    last_ok_ms: int | None = None
    problem: str | None = None


async def watch(
    mirror: Mirror,
    datasets: tuple[str, ...],
    consent: Consent,
    interval_s: float,
    state: WatchState,
    on_queued: Callable[[], None],
) -> None:
    """Discover on schedule until the process is asked to stop."""
    while not mirror.draining.is_set():
        try:
            await _look(mirror, datasets, consent, on_queued)
        except (RemoteError, UsageError, AccountStoppedError, LedgerBusyError) as error:
            if state.problem != str(error):
                log.error("discovery failed, the next one is in %.0f s: %s", interval_s, error)  # noqa: TRY400
            state.problem = str(error)
        else:
            state.problem, state.last_ok_ms = None, mirror.ledger.clock.wall_ms()
        with suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await mirror.draining.wait()


async def _look(mirror: Mirror, datasets: tuple[str, ...], consent: Consent, on_queued: Callable[[], None]) -> None:
    clock: Clock = mirror.ledger.clock
    report = await discover(Discovery(mirror, daily(clock.today(), LOOKBACK_DAYS, datasets)), consent, on_queued)
    log.info("discovered: %d listed, %d queued", report.total("listed"), report.total("queued"))
    last = await mirror.ledger.fact(FULL_LISTING)
    now_ms = clock.wall_ms()
    if last is not None and 0 <= now_ms - int(last) < FULL_EVERY_MS:
        return
    full = Discovery(mirror, Selection(Mode.EVERYTHING, datasets), only_known=True)
    report = await discover(full, consent, on_queued)
    log.info("listed everything: %d older files were replaced", report.total("revised"))
    await mirror.ledger.remember(FULL_LISTING, str(now_ms))
