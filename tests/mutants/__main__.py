"""`make mutants`: run the tests of each mutant on a copy of the package without its check; exit 1 if one survives.

The working tree is never touched. Words on the command line choose the mutants whose file or words hold one of them. This
process loads the libraries once and forks for each mutant, which imports polyb2 and the tests from the changed copy.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from tests.mutants.mutant import PACKAGE, ROOT, Mutant, mutants

_LIBRARIES = ("aioboto3", "aiohttp", "pydantic_settings", "typer", "rich.live", "prometheus_client")
_PLUGINS = ("hypothesis.strategies", "_hypothesis_pytestplugin", "pytest_asyncio.plugin", "pytest_timeout")
PATIENCE_S = 30
"""For one test."""
CPU_MAX_S = 600
MEMORY_MAX = 1 << 30
"""Of one run: without a bound on what a side sends, its test would take the machine's."""
# The thread ends the process, also where a mutant catches whatever a signal would raise.
_OPTIONS = ("-x", "-q", "--no-header", "--tb=short", f"--timeout={PATIENCE_S}", "--timeout-method=thread")
# The plugins are loaded before pytest could have rewritten their asserts.
_WARNINGS = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"
_WITHOUT = ("cacheprovider", "xdist", "pytest_cov")
_WRONG_PACKAGE, _BROKEN = 90, 91


@dataclass
class Run:
    """A run of tests on a package in a folder of its own; as a plugin of pytest it looks that no other is imported."""

    tests: Sequence[str]
    folder: Path
    mutant: Mutant | None = None
    began_s: float = field(default_factory=time.monotonic)
    code: int = 0

    @property
    def package(self) -> Path:
        return self.folder / "src" / PACKAGE.name

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def pytest_collection_finish(self) -> None:
        """A hook: what the tests import is this package and no other."""
        found = Path(sys.modules[PACKAGE.name].__file__ or "").parent
        if found != self.package:
            pytest.exit(f"the tests imported {found}", returncode=_WRONG_PACKAGE)


def main(words: Sequence[str]) -> int:
    chosen = [mutant for mutant in mutants() if not words or any(word in mutant.name for word in words)]
    began_s = time.monotonic()
    for name in _LIBRARIES + _PLUGINS:
        import_module(name)
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for run in _ended(_without_mutants(Path(folder), chosen)):
            if run.code:
                _say(f"{run.output.read_text()}\nthe tests fail without any mutant")
                return 1
        killed = [_judged(run) for run in _ended(_of(Path(folder), chosen))]
    _say(f"{sum(killed)} of {len(killed)} mutants killed in {time.monotonic() - began_s:.0f} s")
    return 0 if all(killed) else 1


def _without_mutants(folder: Path, chosen: Iterable[Mutant]) -> Iterator[Run]:
    """All tests on the package as it is, in as many runs as there are processors."""
    tests = sorted({test for mutant in chosen for test in mutant.killed_by})
    for number in range(_processors()):
        if some := tests[number :: _processors()]:
            yield _copied(PACKAGE, Run(some, folder / f"untouched-{number}"))


def _of(folder: Path, chosen: Iterable[Mutant]) -> Iterator[Run]:
    for number, mutant in enumerate(chosen):
        # With what the run without mutants compiled: the times of the files are copied as well, so that it is valid.
        untouched = folder / "untouched-0" / "src" / PACKAGE.name
        run = _copied(untouched, Run(mutant.killed_by, folder / f"{number}", mutant))
        mutant.apply(run.package)
        yield run


def _copied(package: Path, run: Run) -> Run:
    shutil.copytree(package, run.package)
    return run


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def _judged(run: Run) -> bool:
    """Whether the mutant was killed, which is printed: by a test that fails, or by an end of the whole process."""
    assert run.mutant is not None
    is_killed = run.code == pytest.ExitCode.TESTS_FAILED or run.code < 0
    verdict = "killed" if is_killed else "survived" if run.code == 0 else "broken"
    _say(f"{verdict:8} {time.monotonic() - run.began_s:5.1f} s  {run.mutant.name}")
    if verdict == "broken":
        _say(run.output.read_text())
    shutil.rmtree(run.folder)
    return is_killed


def _ended(runs: Iterator[Run]) -> Iterator[Run]:
    """The runs as they end, as many at once as there are processors."""
    under_way: dict[int, Run] = {}
    try:
        while True:
            while len(under_way) < _processors() and (run := next(runs, None)):
                under_way[_forked(run)] = run
            if not under_way:
                return
            pid, status = os.wait()
            _kill(pid)
            run = under_way.pop(pid)
            run.code = os.waitstatus_to_exitcode(status)
            yield run
    finally:
        for pid in under_way:
            _kill(pid)


def _kill(pid: int) -> None:
    """End a run with all that its tests began."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _processors() -> int:
    return os.cpu_count() or 1


def _forked(run: Run) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = _BROKEN
    try:
        os.setsid()
        code = _tested(run)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _tested(run: Run) -> int:
    output = os.open(run.output, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    os.chdir(ROOT)
    # Before the editable package; processes that a test starts with its own environment have it as well.
    sys.path.insert(0, str(run.package.parent))
    os.environ["PYTHONPATH"] = str(run.package.parent)
    without = [word for name in _WITHOUT for word in ("-p", f"no:{name}")]
    tests = [f"tests/{test}" for test in run.tests]
    options = [*_OPTIONS, _WARNINGS, *without, "--basetemp", str(run.folder / "temp")]
    return pytest.main([*options, *tests], plugins=[run])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
