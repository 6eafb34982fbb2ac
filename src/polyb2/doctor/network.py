"""Name, port and certificate of an endpoint, and the clock behind it."""

from __future__ import annotations

from polyb2.core.units import format_duration
from polyb2.doctor.notes import Notes
from polyb2.remote.network import AnswerClock, Endpoint

CLOCK_WARN_S = 60.0
CLOCK_FAIL_S = 900.0
"""Signatures that are off by more than 15 minutes are refused (AWS Signature Version 4)."""
_NAMED = 3


async def examine_network(notes: Notes, endpoint: Endpoint) -> None:
    """Check the way to an endpoint.

    Raises:
        FailedError: there is none.
    """
    with notes.checking("network"):
        proxy = endpoint.proxy
    if proxy is not None:
        notes.passed("network", f"{endpoint.host} is asked through the proxy {proxy}")
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
    """Compare this machine's clock with the service's, as far as its answers told; an unknown one is no failure."""
    offset_s = clock.offset_s
    if not clock.answered:
        notes.skipped("clock", "no answer came that could tell the time")
        return
    if offset_s is None:
        advice = "make sure that this machine's clock is set (NTP): from 15 minutes on signatures are refused"
        notes.doubtful("clock", "the service's answers tell no time", advice)
        return
    ahead = "behind" if offset_s > 0 else "ahead of"
    words = f"this machine's clock is {format_duration(abs(offset_s))} {ahead} the service's"
    if abs(offset_s) > CLOCK_FAIL_S:
        notes.failed("clock", words, "set this machine's clock (NTP): signatures are refused")
    elif abs(offset_s) > CLOCK_WARN_S:
        notes.doubtful("clock", words, "set this machine's clock (NTP): from 15 minutes on signatures are refused")
    else:
        notes.passed("clock", f"differs by {abs(offset_s):.0f} s")
