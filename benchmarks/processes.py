"""Processes on cores of their own: helpers that live as long as a scenario, and clients that are measured to their end.

CPU time is user + system of the whole process tree as the kernel reports it to who waits (``wait4``). Peak memory is the sum
of the high-water marks (VmHWM) of the processes of the tree alive at once, looked at every 20 ms: a client that ends between
two looks has its last growth missed. ``ru_maxrss`` is no use here: it begins with the memory of the process that forked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

LOOK_S = 0.02
LIMIT_S = 3 * 3600.0
CLIENT_CORE = 0
SERVER_CORE = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at a client under way: seconds since its start, CPU seconds and resident bytes of its tree, bytes copied."""

    at_s: float
    cpu_s: float
    resident_bytes: int
    copied_bytes: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often to look, and how to learn what was copied so far."""

    every_s: float
    copied_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a client took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    code: int
    output: str
    samples: list[Sample] = field(default_factory=list)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started inside inherit this core, where the machine has it."""
    allowed = os.sched_getaffinity(0)
    if core is not None and core in allowed:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def run_client(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    core: int | None = CLIENT_CORE,
    sampling: Sampling | None = None,
    limit_s: float = LIMIT_S,
) -> Cost:
    """Run a client to its end, alone on a core, and measure it; one that takes longer than ``limit_s`` is killed."""
    log = folder / "output.log"
    began_s = time.monotonic()
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(  # noqa: S603 - our own command lines
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    watch = _Watch(process.pid, began_s, sampling)
    try:
        # Looking costs time as well: not the client's.
        with on_core(SERVER_CORE):
            watch.until_end(limit_s)
    finally:
        # The group outlives its leader where a client leaves something behind, or this program is interrupted.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    words = log.read_text(errors="replace")
    return Cost(watch.elapsed_s, cpu_s, watch.peak_bytes, process.returncode, words, watch.samples)


class _Watch:
    """Looks at a process tree until its first process ends."""

    def __init__(self, pid: int, began_s: float, sampling: Sampling | None) -> None:
        self._pid = pid
        self._sampling = sampling
        self._began_s = began_s
        self._next_s = 0.0
        self.elapsed_s = 0.0
        self.peak_bytes = 0
        self.samples: list[Sample] = []

    def until_end(self, limit_s: float) -> None:
        """Return when it has ended, or after ``limit_s``."""
        ended = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            while not poll.poll(LOOK_S * 1000) and self.elapsed_s < limit_s:
                self._look()
        finally:
            os.close(ended)
        self.elapsed_s = time.monotonic() - self._began_s

    def _look(self) -> None:
        self.elapsed_s = time.monotonic() - self._began_s
        tree = list(_tree(self._pid))
        self.peak_bytes = max(self.peak_bytes, sum(_memory(pid, "VmHWM:") for pid in tree))
        if self._sampling is not None and self.elapsed_s >= self._next_s:
            self._next_s += self._sampling.every_s
            resident = sum(_memory(pid, "VmRSS:") for pid in tree)
            copied = self._sampling.copied_bytes()
            self.samples.append(Sample(self.elapsed_s, sum(map(_cpu_s, tree)), resident, copied))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))
    except OSError:
        return


def _memory(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Helper:
    """A Python module of the benchmark as a process: configured by a first line of JSON, then asked line by line."""

    def __init__(self, module: str, config: Mapping[str, Any], *, core: int | None = SERVER_CORE) -> None:
        command = [sys.executable, "-m", module]
        with on_core(core):
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
            )
        self.hello = self.ask(json.dumps(config))

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line, read the answer.

        Raises:
            RuntimeError: the process ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a helper has pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a server of the benchmark ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it took so far."""
        return _cpu_s(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
