"""``benchmarks/RESULTS.md``: a section a scenario, so that a run of one scenario replaces its own figures and no others.

Every section names the commit, the day and the machine that its figures are of.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import ssl
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.clients import PEERS

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = """# What was measured

Written by `make bench`; [README.md](README.md) says what each scenario is and how it is measured. A section is one run on
one machine: compare within it. It names its commit: later ones may be faster (CHANGELOG.md), and are not in it yet.
"""


def write_section(path: Path, name: str, title: str, body: str, command: str) -> None:
    """Put a section into the file, in place of the one of that name."""
    sections = read_sections(path)
    sections[name] = f"## {title}\n\n{body}\n\n{provenance(command)}\n"
    marked = (f"<!-- section {key} -->\n{text}" for key, text in sections.items())
    path.write_text(f"{_HEAD}\n" + "\n".join(marked))


def read_sections(path: Path) -> dict[str, str]:
    """The sections that are there, by name, in their order."""
    if not path.exists():
        return {}
    pieces = re.split(r"<!-- section ([\w-]+) -->\n", path.read_text())[1:]
    return {name: f"{text.rstrip()}\n" for name, text in zip(pieces[::2], pieces[1::2], strict=True)}


def provenance(command: str) -> str:
    """Commit, day, machine and versions."""
    today = datetime.now(UTC).date().isoformat()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"`{command}`, commit {_commit()}, {today}. {os.cpu_count()} cores {_processor()}, Linux {platform.release()}, "
        f"load before the last minutes {load}. {', '.join(_versions())}."
    )


def _commit() -> str:
    commit = _output("git", "rev-parse", "--short", "HEAD")
    return f"{commit} with local changes" if _output("git", "status", "--porcelain", "--", "src") else commit


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    return (re.search(r"model name\s*: (.*)", text) or ["", platform.machine()])[1]


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}", ssl.OPENSSL_VERSION.rsplit(" ", 3)[0]]
    found += [f"SQLite {sqlite3.sqlite_version}", f"aiohttp {version('aiohttp')}"]
    if shutil.which("rclone", path=str(PEERS)):
        found.append(_output(str(PEERS / "rclone"), "version").partition("\n")[0])
        found.append(f"s5cmd {_output(str(PEERS / 's5cmd'), 'version')}")
        words = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in ('obstore', 'boto3')))"
        found.append(_output(str(PEERS / "python"), "-c", words))
    return found


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()
