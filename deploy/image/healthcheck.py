"""The image's HEALTHCHECK: asks ``/healthz`` of the ``run`` in this container.

A bare socket, as it runs every half minute: 20 ms to start, where an HTTP client of the standard library takes 50. The
address is read from the environment alone, which is where a container's settings are.
"""

import os
import socket
import sys

ADDRESS = os.environ.get("POLYB2_HTTP_ADDR", "127.0.0.1:9750")
TIMEOUT_S = 4.0


def main() -> None:
    """Exit with 0 where ``/healthz`` answers 200, or is turned off; else with 1 and the reason."""
    if not ADDRESS:
        return
    host, _, port = ADDRESS.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            status = connection.recv(64).partition(b"\r\n")[0].decode("latin-1")
    except OSError as error:
        sys.exit(f"no answer from {ADDRESS}: {error}")
    if " 200 " not in f"{status} ":
        sys.exit(f"{ADDRESS} answers {status!r}")


if __name__ == "__main__":
    main()
