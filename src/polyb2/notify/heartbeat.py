"""The heartbeat for a dead-man monitor: a GET after each successful cycle, a POST to ``/fail`` after a failed one.

This is the protocol of healthchecks.io, which others follow. The URL is itself a secret: it is never shown, and sent
to no other host, so that redirects are not followed and no .netrc is read.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from polyb2.core.errors import UsageError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.scrub import shown
from polyb2.remote.proxies import proxy_of
from polyb2.remote.sessions import open_session

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
"""For all tries together, as the end of a run waits for its ping."""
TRIES = 3
_PAUSE_S = 0.5
_WORDS_MAX = 2000


class Heartbeat:
    """Pings one URL; a failure is logged once, until it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_logged = False

    async def ping(self, problem: str | None) -> bool:
        """Report success, or the ``problem``; True if the monitor received it."""
        words = f"no answer within {TIMEOUT_S:.0f} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                words = await self._tried(problem)
        if words and not self._is_logged:
            extra = log_fields(LogEvent.NOTIFY_FAILED)
            log.warning("the monitor of POLYB2_PING_URL was not reached: %s; check the URL", words, extra=extra)
        self._is_logged = bool(words)
        return not words

    async def _tried(self, problem: str | None) -> str:
        """Make all tries; return the failure of the last one, or nothing."""
        words = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(_PAUSE_S)
            words = await self._once(problem)
            if not words:
                break
        return words

    async def _once(self, problem: str | None) -> str:
        """Make one try; return the failure, or nothing."""
        method, url, body = ("GET", self._url, None)
        if problem is not None:
            method, url, body = "POST", failure_url(self._url), shown(problem)[:_WORDS_MAX].encode()
        try:
            async with (
                open_session(url, proxy_of(url)) as session,
                session.request(method, url, data=body, allow_redirects=False) as answer,
            ):
                return "" if answer.status < HTTPStatus.MULTIPLE_CHOICES else f"it answered {answer.status}"
        except UsageError as error:
            return str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The error's own text may hold the URL.
            return f"no answer ({type(error).__name__})"


def failure_url(url: str) -> str:
    """The URL for failures: the same with ``/fail`` at the end of its path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
