"""A wire to a PostgreSQL server that a test cuts at a word: before the server gets it, or before its answer comes back."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Self

from tests.postgres import PostgresServer


class Cutter:
    """Hands bytes on, until the client says ``word``.

    Attributes:
        port: of this end.
        word: what cuts the wire, once; empty for nothing.
        heard: the server still gets the word, and its answer is lost.
        cuts: how often it was cut.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.word = b""
        self.heard = False
        self.cuts = 0
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """The connections must be closed by then: each is served until one of its ends goes."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def url(self, database: str) -> str:
        """As ``DATABASE_URL`` has it."""
        return f"postgresql://polyb2@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._server.port)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                data = ready[0].recv(65536)
                cuts = ready[0] is client and bool(self.word) and self.word in data
                if cuts:
                    self._cut(server, data)
                if cuts or not data:
                    return
                (server if ready[0] is client else client).sendall(data)

    def _cut(self, server: socket.socket, data: bytes) -> None:
        self.word = b""
        self.cuts += 1
        if self.heard:
            server.sendall(data)
            server.recv(1)  # it has answered
