"""Opens the collaborators of a command from its settings: the source, the target, the ledger, and all of them as one mirror.

Invariant: what is opened is closed with the block, whatever ends it; a ledger is only used with the pair that it is bound to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from polyb2.clock import Clock, minute_of_day, time_zone, unknown_local_zone
from polyb2.config import Settings
from polyb2.core.errors import LedgerError, Side
from polyb2.core.retry import TIMING, RequestPolicy, Timing
from polyb2.flow.mirror import Mirror, PartEtags
from polyb2.flow.run.slots import Slots
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Binding
from polyb2.meters import Meters
from polyb2.remote.b2 import Target
from polyb2.remote.bucket import Bucket
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.polygon import Source
from polyb2.remote.sessions import Account, Http, open_client
from polyb2.remote.traffic import Traffic

log = logging.getLogger(__name__)
SOURCE_REGION = "us-east-1"


def binding_of(settings: Settings) -> Binding:
    """The pair that a ledger used with these settings belongs to."""
    return Binding(
        settings.source.endpoint_url,
        settings.source.bucket,
        settings.target.endpoint_url,
        settings.target.bucket,
        settings.target.key_prefix,
    )


@asynccontextmanager
async def open_mirror(
    settings: Settings,
    clock: Clock | None = None,
    *,
    read_only: bool = False,
    timing: Timing = TIMING,
    draining: asyncio.Event | None = None,
    retry: Callable[[LedgerError, float], bool] | None = None,
    on_revised: Callable[[str], None] = lambda _key: None,
) -> AsyncIterator[Mirror]:
    """Both stores and the ledger, open and bound to each other; ``read_only`` neither makes nor binds a ledger.

    ``retry`` is the ledger's (:func:`open_ledger`), ``draining`` and ``on_revised`` are the mirror's.

    Raises:
        UsageError: settings are missing, or the ledger may not be used with them.
    """
    settings.require_remote()
    async with AsyncExitStack() as stack:
        ledger = await open_ledger(settings.ledger.url, clock, read_only=read_only, retry=retry)
        stack.push_async_callback(ledger.close)
        await (ledger.check_binding if read_only else ledger.bind)(binding_of(settings))
        policy = RequestPolicy(settings.run.part_tries, timing.retry_first_s, limit_s=timing.retry_limit_s)
        meters, traffic = Meters(), Traffic()
        yield Mirror(
            source=await stack.enter_async_context(open_source(settings, policy, meters, traffic)),
            target=await stack.enter_async_context(open_target(settings, policy, meters, traffic)),
            ledger=ledger,
            part_etags=await PartEtags.known(ledger),
            slots=Slots(settings.run.concurrency, traffic),
            meters=meters,
            timing=timing,
            bandwidth=_bandwidth(settings, ledger.clock),
            part_bytes=settings.run.part_bytes,
            draining=draining or asyncio.Event(),
            on_revised=on_revised,
        )


def _bandwidth(settings: Settings, clock: Clock) -> Bandwidth:
    schedule = settings.limits.bandwidth
    zone = time_zone(schedule.zone)
    if schedule.windows and schedule.zone is None and (unknown := unknown_local_zone()):
        log.warning("TZ=%s is not a known time zone: POLYB2_MAX_BANDWIDTH uses UTC", unknown)
    return Bandwidth(schedule, lambda: minute_of_day(clock.utc(), zone))


@asynccontextmanager
async def open_source(
    settings: Settings, policy: RequestPolicy, meters: Meters | None = None, traffic: Traffic | None = None
) -> AsyncIterator[Source]:
    """Open the source that the settings name; its settings are complete."""
    side, secret = settings.source, settings.source.secret_access_key.get_secret_value()
    account = Account(side.endpoint_url, side.bucket, SOURCE_REGION, side.access_key_id, secret)
    stall_s = settings.run.stall_timeout_s
    async with _open_bucket(
        account, Guard(Side.SOURCE, policy, settings.limits.source_rps, stall_s, meters, traffic)
    ) as bucket:
        yield Source(bucket)


@asynccontextmanager
async def open_target(
    settings: Settings, policy: RequestPolicy, meters: Meters | None = None, traffic: Traffic | None = None
) -> AsyncIterator[Target]:
    """Open the target that the settings name; its settings are complete."""
    side, secret = settings.target, settings.target.application_key.get_secret_value()
    account = Account(side.endpoint_url, side.bucket, side.region, side.key_id, secret)
    stall_s = settings.run.stall_timeout_s
    async with _open_bucket(
        account, Guard(Side.TARGET, policy, settings.limits.target_rps, stall_s, meters, traffic)
    ) as bucket:
        yield Target(bucket, side.key_prefix)


@asynccontextmanager
async def _open_bucket(account: Account, guard: Guard) -> AsyncIterator[Bucket]:
    async with open_client(account) as client, Http(account.endpoint) as http:
        yield Bucket(account, client, http, guard)
