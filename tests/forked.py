"""Processes of polyb2 that begin at its ``main``: forked off one that has loaded the program, once for many tests.

Loading takes four fifths of a short command's time, and is the same each time. A forked process has its own descriptors,
folder, environment, signals and exit code as any other; what it does not show is how the program is loaded and looks from
outside (memory, command line), so tests of that start an interpreter (``Bench.fresh``).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from asyncio import AbstractEventLoop, get_running_loop
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

OURS = ("POLYB2_", "POLYGON_", "MASSIVE_", "B2_", "DATABASE_URL", "WORKER_ID", "LOG_LEVEL")
Output: TypeAlias = "int | IO[bytes] | None"
_MESSAGE_MAX = 1 << 18
_DESCRIPTORS = 256
"""More than the process that forks has open."""
_LIMIT = 1 << 16
"""Bytes that a stream of the process buffers, as in asyncio."""
_SIGNALS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGCHLD: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}


def serves(extra: Iterable[str]) -> bool:
    """Tell if the program alone reads these variables: the interpreter and the libraries read theirs when they are loaded."""
    return all(name.startswith(OURS) for name in extra)


async def start(
    words: tuple[str, ...], folder: Path, environment: dict[str, str], *, out: Output = PIPE, err: Output = PIPE
) -> Process:
    """Start ``python -m polyb2 WORDS``, as ``asyncio.create_subprocess_exec`` does."""
    loop = get_running_loop()
    protocol = SubprocessStreamProtocol(limit=_LIMIT, loop=loop)
    begun = loop.create_future()
    message = json.dumps([words, str(folder), environment]).encode()
    transport = _Transport(loop, protocol, message, False, None, out, err, 0, waiter=begun)
    await begun
    return Process(transport, protocol, loop)


class _Transport(BaseSubprocessTransport):
    """asyncio's own, with another way to start the process and to learn of its end."""

    _loop: AbstractEventLoop

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Output, stderr: Output, bufsize: int, **_: Any
    ) -> None:
        self._forked = forked = _Forked(args, stdout, stderr)
        self._proc = cast("subprocess.Popen[Any]", forked)
        self._loop.add_reader(forked.news, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._forked.news)
        self._process_exited(self._forked.wait())


class _Forked:
    """The part of ``subprocess.Popen`` that asyncio uses."""

    stdin = None

    def __init__(self, message: bytes, out: Output, err: Output) -> None:
        with ExitStack() as given:
            self.stdout, to_out = _ends(out, 1, given)
            self.stderr, to_err = _ends(err, 2, given)
            self.news, theirs = socket.socketpair()
            given.enter_context(theirs)
            socket.send_fds(_loaded(), [message], [0, to_out, to_err, theirs.fileno()])
        self.pid, self.returncode = self._told(), cast("int | None", None)

    def _told(self) -> int:
        return int.from_bytes(self.news.recv(8), "little", signed=True)

    def wait(self) -> int:
        """The exit code of a process that ended."""
        with self.news:
            self.returncode = self._told()
        return self.returncode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _ends(given: Output, inherited: int, until: ExitStack) -> tuple[IO[bytes] | None, int]:
    """Our end of a stream, if it is a pipe, and the descriptor for the process, open ``until`` it was passed on."""
    if given is None:
        return None, inherited
    if given not in {PIPE, DEVNULL}:
        return None, cast("IO[bytes]", given).fileno()
    ours, theirs = os.pipe() if given == PIPE else (None, os.open(os.devnull, os.O_WRONLY))
    until.callback(os.close, theirs)
    return None if ours is None else os.fdopen(ours, "rb", 0), theirs


@cache
def _loaded() -> socket.socket:
    """The way to the process that has loaded the program; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", __name__, str(theirs.fileno())]
    process = subprocess.Popen(
        words, cwd=Path(__file__).parents[1], env={"PATH": os.environ["PATH"]}, pass_fds=[theirs.fileno()],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def main(descriptor: int) -> None:
    """Load everything, then fork for each message."""
    gc.disable()
    import polyb2  # noqa: PLC0415 - the other side needs none of it

    for module in pkgutil.walk_packages(polyb2.__path__, "polyb2."):
        importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_MAX, 4)
            if not message:
                return
            if os.fork() == 0:
                _wait_for_command(message, descriptors)
            for each in descriptors:
                os.close(each)
            with suppress(ChildProcessError):  # there are none
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass


def _wait_for_command(message: bytes, descriptors: list[int]) -> None:
    """Run the command in a process of its own; tell its number, and its exit code when it has ended."""
    for number, handler in _SIGNALS.items():
        signal.signal(number, handler)
    pid = os.fork()
    if pid == 0:
        _run_command(message, descriptors)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in descriptors[:3]:
        os.close(each)
    news = descriptors[3]
    os.write(news, pid.to_bytes(8, "little"))
    _, status = os.waitpid(pid, 0)
    os.write(news, os.waitstatus_to_exitcode(status).to_bytes(8, "little", signed=True))
    os._exit(0)


def _run_command(message: bytes, descriptors: list[int]) -> None:
    words, folder, environment = json.loads(message)
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
    os.closerange(3, _DESCRIPTORS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words
    try:
        from polyb2 import failpoints  # noqa: PLC0415
        from polyb2.__main__ import main as run  # noqa: PLC0415

        failpoints._points = failpoints._parse(environment.get(failpoints.VARIABLE, ""))
        run()
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
