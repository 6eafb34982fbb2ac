"""All checks in their order: settings, ledger place, source, target; each side as far as the settings go."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import version

from polyb2 import __version__, descriptors
from polyb2.config import Settings
from polyb2.core.errors import Side, UsageError
from polyb2.core.retry import LOOKING
from polyb2.core.units import format_duration
from polyb2.doctor.checks import Checkup, FailedError, Notes
from polyb2.doctor.ledger_checks import examine_ledger
from polyb2.doctor.stores import examine_source, examine_target
from polyb2.flow.discover.resolve import resolve_datasets
from polyb2.remote.network import AnswerClock, Endpoint
from polyb2.session import binding_of, open_source, open_target
from polyb2.variables import dotenv_exposed

_LIBRARIES = ("aiohttp", "aioboto3", "botocore", "aiosqlite")
CLOCK_WARN_S = 60.0
CLOCK_FAIL_S = 900.0
"""Signatures that are off by more than 15 minutes are refused (AWS Signature Version 4)."""
_NAMED = 3


async def examine(settings: Settings) -> Checkup:
    """Make all checks.

    Args:
        settings: as they are, complete or not.
    """
    checkup = Checkup()
    general = Notes(checkup, "polyb2")
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    general.passed("versions", f"polyb2 {__version__}, Python {platform.python_version()}, {libraries}")
    _note_open_files(general, settings.run.concurrency)
    if exposed := dotenv_exposed():
        general.doubtful(
            "dotenv", f"{exposed}, which holds the keys", "chmod 600 .env, and give it to the user who runs polyb2"
        )
    has_source = _note_settings(general, settings, Side.SOURCE)
    has_target = _note_settings(general, settings, Side.TARGET)
    if has_source:
        with suppress(FailedError):
            await _examine_source(Notes(checkup, "source"), settings)
    md5s: bool | None = None
    if has_target:
        with suppress(FailedError):
            md5s = await _examine_target(Notes(checkup, "target"), settings)
    ledger = Notes(checkup, "ledger")
    binding = binding_of(settings) if has_source and has_target else None
    with suppress(FailedError):
        await examine_ledger(ledger, settings.ledger.url, binding, part_etags_are_md5s=md5s)
    return checkup


def _note_open_files(notes: Notes, streams: int) -> None:
    files = descriptors.raise_limit()
    words = f"{files} for this process"
    if (fits := descriptors.slots_that_fit(files)) < streams:
        notes.doubtful("open_files", f"{words}, enough for {fits} of {streams} streams", descriptors.ADVICE)
    else:
        notes.passed("open_files", words)


def _note_settings(notes: Notes, settings: Settings, side: Side) -> bool:
    name = f"settings_{side}"
    try:
        settings.require_remote(source=side is Side.SOURCE, target=side is Side.TARGET)
    except UsageError as error:
        for line in str(error).splitlines():
            missing, _, cure = line.partition(": ")
            notes.failed(name, missing, cure)
        return False
    notes.passed(name, "complete")
    return True


async def _examine_source(notes: Notes, settings: Settings) -> None:
    await examine_network(notes, Endpoint(Side.SOURCE, settings.source.endpoint_url, _step_s(settings)))
    clock = AnswerClock()
    async with open_source(settings, LOOKING, clock) as source:
        try:
            with notes.checking("list"):
                await source.folders("")
        finally:
            note_clock(notes, clock)
        notes.passed("list", "the keys are accepted, and the bucket is listed")
        with notes.checking("datasets"):
            datasets = await resolve_datasets(source, settings.discovery.datasets)
        notes.passed("datasets", f"{len(datasets)} chosen: {', '.join(datasets)}")
        await examine_source(notes, source, datasets)


def _step_s(settings: Settings) -> float:
    """Time-out of one step of the way to a side: these steps come before anything that takes the stall time-out."""
    return settings.run.stall_timeout_s / 4


def _note_region(notes: Notes, settings: Settings) -> None:
    of_host = settings.target.region_of_host
    if of_host is not None and of_host != settings.target.region:
        words = f"B2_REGION is {settings.target.region}, but the endpoint's region is {of_host}"
        notes.failed("region", words, "leave B2_REGION out: it follows from the endpoint")
    else:
        notes.passed("region", f"{settings.target.region}")


async def _examine_target(notes: Notes, settings: Settings) -> bool | None:
    await examine_network(notes, Endpoint(Side.TARGET, settings.target.endpoint_url, _step_s(settings)))
    _note_region(notes, settings)
    clock = AnswerClock()
    async with open_target(settings, LOOKING, clock) as target:
        try:
            with notes.checking("list", "listFiles"):
                await target.guard.tried(target.probe)
        finally:
            note_clock(notes, clock)
        notes.passed("list", "the keys are accepted, and listFiles is there")
        return await examine_target(notes, target)


async def examine_network(notes: Notes, endpoint: Endpoint) -> None:
    """Check the way to an endpoint.

    Raises:
        FailedError: there is none.
    """
    with notes.checking("network"):
        proxy = endpoint.proxy
    if proxy is not None:
        notes.passed("network", f"{endpoint.host} is reached through the proxy {proxy}")
    else:
        await _examine_steps(notes, endpoint)


async def _examine_steps(notes: Notes, endpoint: Endpoint) -> None:
    with notes.checking("dns"):
        addresses = await endpoint.addresses()
    more = f" and {len(addresses) - _NAMED} more" if len(addresses) > _NAMED else ""
    notes.passed("dns", f"{endpoint.host} is {', '.join(addresses[:_NAMED])}{more}")
    with notes.checking("tcp"):
        took_s = await endpoint.connect()
    notes.passed("tcp", f"port {endpoint.port} answers in {took_s * 1000:.0f} ms")
    if not endpoint.is_tls:
        notes.skipped("tls", "plain HTTP on loopback")
        return
    with notes.checking("tls"):
        version = await endpoint.handshake()
    notes.passed("tls", f"{version}, certificate trusted")


def note_clock(notes: Notes, clock: AnswerClock) -> None:
    """Compare this machine's clock with the service's, if its answers showed it; an unknown one is no failure."""
    offset_s = clock.offset_s
    if not clock.answered:
        notes.skipped("clock", "no answer showed the time")
        return
    if offset_s is None:
        advice = "make sure that this machine's clock is set (NTP): beyond 15 minutes signatures are refused"
        notes.doubtful("clock", "the service's answers do not show the time", advice)
        return
    ahead = "behind" if offset_s > 0 else "ahead of"
    words = f"this machine's clock is {format_duration(abs(offset_s))} {ahead} the service's"
    if abs(offset_s) > CLOCK_FAIL_S:
        notes.failed("clock", words, "set this machine's clock (NTP): signatures are refused")
    elif abs(offset_s) > CLOCK_WARN_S:
        notes.doubtful("clock", words, "set this machine's clock (NTP): beyond 15 minutes signatures are refused")
    else:
        notes.passed("clock", f"differs by {abs(offset_s):.0f} s")
