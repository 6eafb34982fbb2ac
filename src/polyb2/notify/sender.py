"""Messages through apprise, of ``requirements/notify.txt``: sent in a thread, as it blocks, and within a time limit.

A URL of the library holds tokens: only its scheme is ever shown, and the library's own log lines are suppressed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.news import Digest

if TYPE_CHECKING:
    import apprise

log = logging.getLogger(__name__)
TIMEOUT_S = 20.0
INSTALL = "pip install --no-deps --require-hashes -r requirements/notify.txt"
_TALKATIVE = ("apprise", "requests", "urllib3", "requests_oauthlib")


class AppriseSender:
    """Sends messages to each of the URLs; the failure of a URL is logged once, until it works again."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._logged: set[str] = set()

    async def check(self) -> None:
        """Report what is wrong with the URLs, or with this installation, before there is a message."""

        def problem_of(url: str) -> str | None:
            loaded = _load(url)
            return loaded if isinstance(loaded, str) else None

        await self._tried(problem_of)

    async def send(self, message: Digest) -> bool:
        """Send a message; True if it reached at least one URL within the time limit."""
        return None in await self._tried(lambda url: _send(url, message))

    async def _tried(self, act: Callable[[str], str | None]) -> list[str | None]:
        """Act on each URL, and log the problems; those that the time limit cut off have one, too."""
        problems: dict[str, str | None] = dict.fromkeys(self._urls, f"no answer within {TIMEOUT_S:.0f} s")

        def body() -> None:
            for url in self._urls:
                problems[url] = act(url)

        await _in_a_thread(body)
        found = dict(problems)
        for url, problem in found.items():
            self._log(url, problem)
        return [*found.values()]

    def _log(self, url: str, problem: str | None) -> None:
        if problem is None:
            self._logged.discard(url)
        elif url not in self._logged:
            self._logged.add(url)
            log.warning("no notification to %s: %s", shown(url), problem, extra=log_fields(LogEvent.NOTIFY_FAILED))


def shown(url: str) -> str:
    """The part of a URL that may be shown."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://..." if separator and scheme.isascii() and scheme.replace("+", "").isalnum() else "..."


def _load(url: str) -> apprise.Apprise | str:
    """The library, ready to send to one URL; or the problem in words."""
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError:
        return f"apprise is not installed; in the checkout: {INSTALL}"
    _read_no_netrc()
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(app_id="polyb2", app_desc="polyb2", async_mode=False, http_redirects=False)
    library = apprise.Apprise(asset=asset)
    try:
        if library.add(url):
            return library
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and its words may hold the token
        return f"{type(error).__name__}; check the URL in POLYB2_NOTIFY_URLS"
    return "it is not a URL of apprise: see its list of services, and correct POLYB2_NOTIFY_URLS"


def _read_no_netrc() -> None:
    """Keep the library's HTTP client from sending what the user's .netrc has for the host; it has no switch of its own."""
    import requests.sessions  # noqa: PLC0415 - it comes with apprise

    vars(requests.sessions)["get_netrc_auth"] = lambda *_args, **_options: None


def _send(url: str, message: Digest) -> str | None:
    """Send to one URL, blocking; the problem in words, None if it went out."""
    library = _load(url)
    if isinstance(library, str):
        return library
    try:
        sent = library.notify(title=message.title, body=message.body, body_format="text")
    except Exception as error:  # noqa: BLE001 - see above
        return f"{type(error).__name__}; check the URL in POLYB2_NOTIFY_URLS"
    return None if sent else "the service did not accept it; check the URL in POLYB2_NOTIFY_URLS, and the service"


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a daemon thread, which the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def body() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop is closed: no task waits any more
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=body, name="notify", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_S):
            await done.wait()
