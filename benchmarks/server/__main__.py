"""One side of a benchmark as a process of its own: told what it has on the first line of stdin, then commanded by lines.

Commands: ``clear`` empties bucket and counters, ``forget`` the counters alone. Every line, ``report`` as well, is
answered with what was asked and stored, as a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

from benchmarks.content import Content
from benchmarks.server.bucket import Bucket
from benchmarks.server.s3 import Service, operation
from benchmarks.server.throttle import Throttle
from benchmarks.server.wire import Request, Wire

BACKLOG = 1024


class Server:
    """Listens on a free port of loopback."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.bucket = Bucket({key: Content(key, size) for key, size in config["files"]})
        if part_bytes := config.get("part_bytes"):
            self.bucket.fill(part_bytes, time.time())
        if primed := config.get("primed_part_bytes"):
            for content in self.bucket.contents.values():
                content.etag(primed)
        self._service = Service(self.bucket, tells_parts=config.get("tells_parts", False))
        self.throttle = Throttle(config.get("requests_per_s", 0), config.get("bytes_per_s", 0))
        self._tls: ssl.SSLContext | None = None
        if certificate := config.get("certificate"):
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, config["key"])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port = self._listener.getsockname()[1]
        self.requests: Counter[str] = Counter()
        self._wires: list[Wire] = []
        self._counting = threading.Lock()

    def run(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            secured = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
            with secured:
                wire = Wire(secured)
                self._wires.append(wire)
                self._converse(wire)

    def _converse(self, wire: Wire) -> None:
        while request := wire.request():
            key = request.path.removeprefix("/").partition("/")[2]
            name = operation(request, key)
            body = wire.body(request.length)
            answer = self.throttle.refusal(name, self._amount(request, key))
            if answer is None:
                if request.headers.get("expect"):
                    wire.proceed()
                answer = self._service.answer(request, name, key, body)
            with self._counting:
                self.requests[name] += 1
            wire.send(answer, head_only=request.method == "HEAD")
            for _ in body:
                pass
            if answer.close:
                return

    def _amount(self, request: Request, key: str) -> int:
        """Bytes of object that a request moves."""
        if request.method == "PUT":
            return request.length
        first, _, last = request.headers.get("range", "").removeprefix("bytes=").partition("-")
        found = self.bucket.objects.get(key)
        return int(last) - int(first) + 1 if last else found.size if found else 0

    def clear(self, *, objects: bool) -> None:
        """Forget what was counted, and what is stored where ``objects`` says so."""
        if objects:
            self.bucket.clear()
        self.requests.clear()
        self.throttle.clear()
        self._wires.clear()

    def report(self) -> dict[str, Any]:
        """What was asked, and what is stored."""
        return {
            "requests": dict(self.requests),
            "taken_bytes": sum(wire.taken_bytes for wire in list(self._wires)),
            "objects": len(self.bucket.objects),
            "bytes": sum(stored.size for stored in list(self.bucket.objects.values())),
            "identical": self.bucket.identical(),
            "uploads": len(self.bucket.uploads),
            "throttle": self.throttle.report(),
        }


def main() -> None:
    server = Server(json.loads(sys.stdin.readline()))
    threading.Thread(target=server.run, daemon=True).start()
    print(json.dumps({"port": server.port}), flush=True)
    for line in sys.stdin:
        if (word := line.strip()) in {"clear", "forget"}:
            server.clear(objects=word == "clear")
        print(json.dumps(server.report()), flush=True)


if __name__ == "__main__":
    main()
