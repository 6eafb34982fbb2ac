"""Opens what a command works with, as the settings say: the source, the target, the ledger, and all of them as one mirror.

Invariant: what is opened is closed with the block, whatever ends it; a ledger is only used with the pair that it is bound to.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from polyb2.clock import Clock, minute_of_day, time_zone, unknown_local_zone
from polyb2.config import Settings
from polyb2.core.errors import Side
from polyb2.core.retry import RequestPolicy
from polyb2.flow.mirror import OPAQUE, Mirror
from polyb2.flow.streams import Streams
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import TARGET_ETAGS, Binding
from polyb2.remote.clients import Account, Http, open_client
from polyb2.remote.guards import Bandwidth, Guard
from polyb2.remote.source import Source
from polyb2.remote.target import Target
from polyb2.remote.traffic import Traffic

log = logging.getLogger(__name__)
SOURCE_REGION = "us-east-1"


def binding_of(settings: Settings) -> Binding:
    """The pair that a ledger used with these settings belongs to."""
    return Binding(
        settings.polygon_s3_endpoint_url,
        settings.polygon_s3_bucket,
        settings.b2_endpoint_url or "",
        settings.b2_bucket_name or "",
        settings.b2_key_prefix,
    )


@asynccontextmanager
async def open_mirror(
    settings: Settings, clock: Clock | None = None, *, read_only: bool = False
) -> AsyncIterator[Mirror]:
    """Both stores and the ledger, open and bound to each other; ``read_only`` neither makes nor binds a ledger.

    Raises:
        UsageError: settings are missing, or the ledger may not be used with them.
    """
    settings.require_remote()
    async with AsyncExitStack() as stack:
        ledger = await open_ledger(settings.database_url, clock, read_only=read_only)
        stack.push_async_callback(ledger.close)
        await (ledger.check_binding if read_only else ledger.bind)(binding_of(settings))
        policy, traffic = RequestPolicy(tries=settings.polyb2_part_tries), Traffic()
        yield Mirror(
            source=await stack.enter_async_context(open_source(settings, policy, traffic)),
            target=await stack.enter_async_context(open_target(settings, policy, traffic)),
            ledger=ledger,
            streams=Streams(settings.polyb2_concurrency, traffic),
            bandwidth=_bandwidth(settings, ledger.clock),
            part_bytes=settings.polyb2_part_size,
            opaque_etags=await ledger.fact(TARGET_ETAGS) == OPAQUE,
        )


def _bandwidth(settings: Settings, clock: Clock) -> Bandwidth:
    schedule = settings.polyb2_max_bandwidth
    zone = time_zone(schedule.zone)
    if schedule.windows and schedule.zone is None and (unknown := unknown_local_zone()):
        log.warning("TZ=%s is not a known time zone: POLYB2_MAX_BANDWIDTH goes by UTC", unknown)
    return Bandwidth(schedule, lambda: minute_of_day(clock.utc(), zone))


@asynccontextmanager
async def open_source(
    settings: Settings, policy: RequestPolicy, traffic: Traffic | None = None
) -> AsyncIterator[Source]:
    """The source that the settings name; they are complete as far as it goes."""
    secret = settings.polygon_s3_secret_access_key
    account = Account(
        settings.polygon_s3_endpoint_url,
        settings.polygon_s3_bucket,
        SOURCE_REGION,
        settings.polygon_s3_access_key_id or "",
        secret.get_secret_value() if secret else "",
    )
    guard = Guard(Side.SOURCE, policy, settings.polyb2_source_rps, settings.polyb2_stall_timeout, traffic=traffic)
    async with open_client(account) as client, Http(account.endpoint) as http:
        yield Source(account, client, http, guard)


@asynccontextmanager
async def open_target(
    settings: Settings, policy: RequestPolicy, traffic: Traffic | None = None
) -> AsyncIterator[Target]:
    """The target that the settings name; they are complete as far as it goes."""
    secret = settings.b2_application_key
    account = Account(
        settings.b2_endpoint_url or "",
        settings.b2_bucket_name or "",
        settings.b2_region or "",
        settings.b2_key_id or "",
        secret.get_secret_value() if secret else "",
    )
    guard = Guard(Side.TARGET, policy, settings.polyb2_b2_rps, settings.polyb2_stall_timeout, traffic=traffic)
    async with open_client(account) as client, Http(account.endpoint) as http:
        yield Target(account, settings.b2_key_prefix, client, http, guard)
