"""News to the owner, each item once: a sent item is not repeated, an unsent one is kept for the next time.

Processes on one ledger share what was sent: an item with a name is claimed before it is sent, and released if that fails.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from polyb2.config import Settings
from polyb2.core.errors import Polyb2Error
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.news import News, digest
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.notify.sender import AppriseSender

log = logging.getLogger(__name__)
UNSENT_MAX = 1000


class Notifier:
    """Sends news through the sender, and remembers it in the ledger."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        urls = [url.get_secret_value() for url in settings.notify.urls]
        self._sender = AppriseSender(urls) if urls else None
        self._ledger = ledger
        self._where = f"{settings.target.bucket}/{settings.target.key_prefix} on {socket.gethostname()}"
        self._unsent: list[News] = []
        self._sender_id = secrets.token_hex(8)

    @property
    def is_on(self) -> bool:
        return self._sender is not None

    async def check(self) -> None:
        """Report at the start what would keep messages from going out."""
        if self._sender is not None:
            await self._sender.check()

    async def send(self, news: Sequence[News]) -> bool:
        """Send the new items as one message; True if nothing is left to send."""
        if self._sender is None:
            return True
        pieces = await self._claimed([*self._unsent, *news])
        if not pieces:
            self._unsent = []
            return True
        names = [piece.name for piece in pieces if piece.name]
        if not await self._sender.send(digest(pieces, self._where)):
            self._unsent = pieces[-UNSENT_MAX:]
            await self._ledger.release_notices(names, self._sender_id)
            return False
        self._unsent = []
        await self._ledger.note_notices(names)
        return True

    async def forget(self, state: str) -> None:
        """Forget a state that is over: it is sent again if it comes back."""
        if self._sender is not None:
            await self._ledger.forget_notices(state)

    async def _claimed(self, news: Sequence[News]) -> list[News]:
        """The news that this process is to send: of those with a name, what nobody sent nor is sending."""
        named = {piece.name: piece for piece in news if piece.name}
        unsent = await self._ledger.new_notices(list(named), self._sender_id)
        if unsent:
            unsent = await self._ledger.claim_notices(unsent, self._sender_id)
        return [piece for piece in news if not piece.name] + [named[name] for name in named if name in unsent]


@contextmanager
def harmless() -> Iterator[None]:
    """Log an error of the block instead of raising it: a notification never affects the work that it is about."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - see above
        words = str(error) if isinstance(error, Polyb2Error) else type(error).__name__
        log.warning("no notification: %s", words, extra=log_fields(LogEvent.NOTIFY_FAILED))


async def notify_once(settings: Settings, news: Sequence[News], over: str | None = None) -> None:
    """Send the news of a command that has ended. A failure is a line in the log.

    Args:
        settings: with the URLs and the mirror; without a ledger nothing is remembered, and none is made for it.
        news: what is new.
        over: the beginning of names that may be sent again.
    """
    if not settings.notify.urls or not (news or over):
        return
    with harmless():
        async with AsyncExitStack() as stack:
            ledger = await open_ledger(settings.ledger.url, make_new=False)
            stack.push_async_callback(ledger.close)
            notifier = Notifier(settings, ledger)
            if over is not None:
                await notifier.forget(over)
            await notifier.send(news)
