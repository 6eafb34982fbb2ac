"""Interim answers (100 Continue, 103 Early Hints) are skipped, up to a limit.

aiohttp parses and keeps each of them before the waiting task gets its turn: a server that sends nothing else would block the
event loop for many seconds, and take hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

INTERIM_MAX = 100
"""Unread answers on one connection, which carries one request at a time."""


class _Handler(ResponseHandler):
    """A connection that is dropped when more answers arrive than were requested."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self._buffer) > INTERIM_MAX:
            self._buffer.clear()
            self.close()  # clears an exception that is set before
            self.set_exception(BadHttpMessage(f"more than {INTERIM_MAX} interim answers"))


def bounded(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Limit the number of unread answers on the connections of a connector."""
    handler: type[ResponseHandler] = _Handler
    connector._factory = partial(handler, loop=asyncio.get_running_loop())  # noqa: SLF001 - there is no other way in
    return connector
