"""Real servers for the tests: daemons of Debian's packages, private to one test run, which die with it.

A server is a folder with its configuration, its data and a log of each daemon, and the processes that work there. They run
in groups of their own, on free ports of 127.0.0.1, and are killed when the thread that started them ends, so that a killed
test run leaves no process behind.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SETPRIV: Final = Path("/usr/bin/setpriv")
READY_S: Final = 60.0
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}  # no venv, proxy or locale of ours
_LOG_TAIL_LINES: Final = 15
_LOG_LINE_CHARS: Final = 500  # the end of a traceback, which Swift logs as one line


class ServerError(RuntimeError):
    """The servers did not come up; the message ends with what they logged."""


def missing(programs: tuple[Path, ...], install_script: str) -> str | None:
    """Why a server cannot run here, as the reason of a skip; None if it can."""
    absent = [path.name for path in programs if not os.access(path, os.X_OK)]
    return f"not installed: {', '.join(absent)} (run {install_script})" if absent else None


class Daemons:
    """Processes with one folder, which is removed with them.

    Args:
        root: the folder.
        user: the user they run as; None is our own.
    """

    def __init__(self, root: Path, user: str | None = None) -> None:
        self.root = root
        self._as_user = ("--reuid", user, "--regid", user, "--init-groups") if user else ()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: object) -> None:
        """Start a process in its own group (some signal their whole group), that dies with us and logs to NAME.log."""
        if (former := self._processes.get(name)) is not None:
            former.wait()
        with (self.root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._words(command),
                cwd=self.root,
                env=_ENVIRONMENT,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, name: str, *command: object) -> str:
        """Run a command to its end; its output.

        Raises:
            ServerError: it failed.
        """
        done = subprocess.run(
            self._words(command), cwd=self.root, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=READY_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServerError(f"{name} ended with {done.returncode}: {done.stderr.strip()}{self.log_tails()}")
        return done.stdout

    def _words(self, command: tuple[object, ...]) -> list[str]:
        return [str(SETPRIV), *self._as_user, "--pdeathsig", "KILL", *map(str, command)]

    def stop(self) -> None:
        """Kill them, each by its own process group, and remove the folder. Does nothing the second time."""
        for process in self._processes.values():
            if process.poll() is None:  # not reaped: the id is still ours. Nothing is kept, so no need to be gentle
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def pid(self, name: str) -> int:
        """The process id of one of them."""
        return self._processes[name].pid

    def kill(self, name: str) -> None:
        """Kill one of them with its process group."""
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ended(self) -> list[str]:
        """Names of the daemons that are not there any more."""
        return [name for name, each in self._processes.items() if each.poll() is not None]

    def log_tails(self) -> str:
        tails = ""
        for log in sorted(self.root.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            tails += "".join(f"\n{log.stem}: {line[-_LOG_LINE_CHARS:]}" for line in lines)
        return tails

    def wait_for_round_trip(self, endpoint_url: str, access_key: str, secret_key: str, region: str) -> None:
        """Return when a bucket and an object could be made and taken away again.

        Raises:
            ServerError: a daemon ended, or it took too long.
        """
        deadline = time.monotonic() + READY_S
        for method, path in (("PUT", "/ready"), ("PUT", "/ready/x"), ("DELETE", "/ready/x"), ("DELETE", "/ready")):
            answer = ""
            while not answer.startswith(("2", _DONE_ALREADY[method])):
                dead = self.ended()
                if dead or time.monotonic() > deadline:
                    why = f"{', '.join(dead)} ended" if dead else f"not ready after {READY_S:g} s"
                    why += f"; the last answer to {method} {path}: {answer or 'none'}"
                    raise ServerError(why + self.log_tails())
                time.sleep(0.05)
                answer = _answer(method, endpoint_url + path, Credentials(access_key, secret_key), region)


_DONE_ALREADY: Final = {"PUT": "409", "DELETE": "404"}  # an earlier try that was answered with an error had worked


def _answer(method: str, url: str, credentials: Credentials, region: str) -> str:
    request = AWSRequest(method, url, data=b"")
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=READY_S)
    with contextlib.closing(connection):
        try:
            connection.request(method, where.path, body=b"", headers=dict(request.headers.items()))
            response = connection.getresponse()
            return f"{response.status} {response.read(500)!r}"
        except (OSError, http.client.HTTPException) as error:
            return f"no HTTP answer: {error}"


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Free ports that nobody gets by chance meanwhile. A daemon may listen there, with SO_REUSEADDR: we do not."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]
