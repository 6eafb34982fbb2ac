"""A clock of the event loop that can be put forward."""

from __future__ import annotations

import asyncio


class Leaping(asyncio.SelectorEventLoop):
    """A loop whose clock is ``ahead_s`` seconds ahead."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s
