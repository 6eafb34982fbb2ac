"""The ping of a dead-man monitor: a GET after each cycle that went well, a POST to ``/fail`` after one that did not.

This is the protocol of healthchecks.io, which others follow; the URL is its own secret and never shown.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from polyb2.core.logevents import LogEvent, told
from polyb2.core.scrub import shown
from polyb2.remote.trust import authorities

log = logging.getLogger(__name__)
PATIENCE_S = 10.0
TRIES = 3
_PAUSE_S = 1.0
_WORDS_MAX = 2000


class Pinger:
    """Pings one URL; what goes wrong is said once, until it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_said = False

    async def ping(self, problem: str | None) -> bool:
        """Say that all is well, or what the ``problem`` is; whether the monitor heard it."""
        words = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(_PAUSE_S)
            words = await self._once(problem)
            if not words:
                self._is_said = False
                return True
        if not self._is_said:
            self._is_said = True
            extra = told(LogEvent.NOTIFY_FAILED)
            log.warning("the monitor of POLYB2_PING_URL was not reached: %s; check the URL", words, extra=extra)
        return False

    async def _once(self, problem: str | None) -> str:
        """One try; what went wrong, or nothing."""
        method, url, body = ("GET", self._url, None)
        if problem is not None:
            method, url, body = "POST", failing(self._url), shown(problem)[:_WORDS_MAX].encode()
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        try:
            connector = aiohttp.TCPConnector(ssl=authorities())
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
                session.request(method, url, data=body) as answer,
            ):
                return "" if answer.ok else f"it answered {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # The error's own words may hold the URL.
            return f"no answer ({type(error).__name__})"


def failing(url: str) -> str:
    """The URL for what went wrong: the same with ``/fail`` at the end of its path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
