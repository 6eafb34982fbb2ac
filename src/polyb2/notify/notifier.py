"""News to the owner, each piece once: what was told before is left out, what could not be told is kept for the next time."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from polyb2.config import Settings
from polyb2.core.errors import Polyb2Error
from polyb2.core.logevents import LogEvent, told
from polyb2.core.news import News, digest
from polyb2.ledger.ledger import Ledger
from polyb2.notify.carrier import Carrier

log = logging.getLogger(__name__)
UNSENT_MAX = 1000


class Notifier:
    """Tells news through the carrier and remembers it in the ledger."""

    def __init__(self, settings: Settings, ledger: Ledger | None) -> None:
        """Without a ``ledger`` there is nothing to remember it by, and everything is new."""
        urls = [url.get_secret_value() for url in settings.notify.urls]
        self._carrier = Carrier(urls) if urls else None
        self._ledger = ledger
        self._where = f"{settings.target.bucket}/{settings.target.key_prefix} on {socket.gethostname()}"
        self._unsent: list[News] = []

    @property
    def is_on(self) -> bool:
        return self._carrier is not None

    async def check(self) -> None:
        """Say at the start what would keep messages from going out."""
        if self._carrier is not None:
            await self._carrier.check()

    async def tell(self, news: Sequence[News]) -> bool:
        """Send what is new as one message; whether nothing is left to send."""
        if self._carrier is None:
            return True
        pieces = await self._fresh([*self._unsent, *news])
        if not pieces:
            self._unsent = []
            return True
        if not await self._carrier.carry(digest(pieces, self._where)):
            self._unsent = pieces[-UNSENT_MAX:]
            return False
        self._unsent = []
        if self._ledger is not None:
            await self._ledger.note_told([piece.name for piece in pieces if piece.name])
        return True

    async def forget(self, standing: str) -> None:
        """What stood is over: told anew if it comes back."""
        if self._carrier is not None and self._ledger is not None:
            await self._ledger.forget_told(standing)

    async def _fresh(self, news: Sequence[News]) -> list[News]:
        named = {piece.name: piece for piece in news if piece.name}
        untold = set(named) if self._ledger is None else await self._ledger.untold(list(named))
        return [piece for piece in news if not piece.name] + [named[name] for name in named if name in untold]


async def tell_once(settings: Settings, news: Sequence[News], over: str | None = None) -> None:
    """Tell the news of a command that has ended. A failure is a line in the log.

    Args:
        settings: where to, and which mirror; without a ledger nothing is remembered, and none is made for it.
        news: what is new.
        over: the beginning of names that may be told again.
    """
    if not settings.notify.urls or not (news or over):
        return
    try:
        async with AsyncExitStack() as stack:
            ledger = None
            if settings.ledger.path.exists():
                ledger = await Ledger.open(settings.ledger.path)
                stack.push_async_callback(ledger.close)
            notifier = Notifier(settings, ledger)
            if over is not None:
                await notifier.forget(over)
            await notifier.tell(news)
    except Exception as error:  # noqa: BLE001 - telling never fails what is told of
        words = str(error) if isinstance(error, Polyb2Error) else type(error).__name__
        log.warning("no notification: %s", words, extra=told(LogEvent.NOTIFY_FAILED))
