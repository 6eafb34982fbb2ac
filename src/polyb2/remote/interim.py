"""Interim answers (100 Continue, 103 Early Hints) are passed over, and there is an end to them.

aiohttp parses and keeps each of them before the task that waits has its turn: a server that sends nothing else takes the
event loop for many seconds, and hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

INTERIM_MAX = 100
"""Answers that wait on one connection, on which one request is under way."""


class _Handler(ResponseHandler):
    """A connection that is dropped where more answers come than anybody asked for."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self._buffer) > INTERIM_MAX:
            self._buffer.clear()
            self.close()  # which forgets an exception that is set before
            self.set_exception(BadHttpMessage(f"more than {INTERIM_MAX} interim answers"))


def bounded(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """The connector, with connections that take a bounded number of answers."""
    handler: type[ResponseHandler] = _Handler
    connector._factory = partial(handler, loop=asyncio.get_running_loop())  # noqa: SLF001 - there is no other way in
    return connector
