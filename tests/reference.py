"""``python -m tests.reference``: writes what users read of settings and exit codes, from the code that has them.

``.env.example`` is made as a whole; in the documents the tables between the two marks. ``tests/test_reference.py`` fails
where they differ from the code.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polyb2.config.settings import Entry, Settings, entries
from polyb2.core.exit_codes import ExitCode
from polyb2.core.schedule import NO_LIMIT
from polyb2.core.units import write_duration, write_size

ROOT = Path(__file__).parents[1]
COLUMNS = 118
HEAD = """\
# Settings of polyb2. Copy this file to .env and fill in the first two groups; the rest is optional.
# The command line wins over the environment, the environment over .env, .env over the default. Empty means
# not set, except where a setting says otherwise. A line like #NAME=value shows the default. Sizes: 64MiB (binary), 50M
# (decimal) or bytes. Durations: 500ms, 30s, 15m, 24h or seconds. SSL_CERT_FILE, the usual variable for another CA bundle,
# and those of proxies (HTTPS_PROXY, NO_PROXY) are taken from the environment and not from here. White space and one pair of
# quotes around a value are taken off.
"""


def default_text(entry: Entry) -> str:
    """The default as it would be written into ``.env``; nothing where there is none, or the code computes it."""
    value: Any = entry.info.default
    if entry.info.default_factory is not None or (not value and value != 0):
        return ""
    if isinstance(value, tuple | list):
        return ",".join(value)
    if value == NO_LIMIT:
        return "0"
    if entry.field.endswith("_s"):
        return write_duration(value)
    return write_size(value) if entry.field.endswith("_bytes") else str(value)


def example() -> str:
    """The text of ``.env.example``."""
    lines, group = [HEAD], ""
    for entry in entries():
        if entry.group != group:
            group = entry.group
            lines += [f"# ---- {heading(entry)} ----", ""]
        lines += _example_of(entry)
    return "\n".join(lines)


def heading(entry: Entry) -> str:
    """The heading of a setting's group."""
    return str(Settings.model_fields[entry.group].annotation.__doc__).rstrip(".")


def _example_of(entry: Entry) -> Iterator[str]:
    variable = entry.variable
    span = f"Range: {entry.range}." if " to " in entry.range else f"{entry.range}." if entry.range else ""
    words = [variable.words, span, f"Default: {variable.default}." if variable.default else ""]
    yield from textwrap.wrap(" ".join(filter(None, words)), COLUMNS, initial_indent="# ", subsequent_indent="# ")
    yield f"{'' if variable.required else '#'}{variable.name}={default_text(entry)}"
    if variable.alias:
        yield "# The same by the vendor's new name; taken where the one above is not set."
        yield f"#{variable.alias}="
    yield ""


def settings_table() -> str:
    """A table of settings for each group."""
    lines, group = list[str](), ""
    for entry in entries():
        if entry.group != group:
            group = entry.group
            lines += [f"\n**{heading(entry)}**\n", "| setting | default | range | meaning |", "|---|---|---|---|"]
        variable = entry.variable
        names = " or ".join(f"`{name}`" for name in (variable.name, variable.alias, variable.option) if name)
        text = default_text(entry)
        default = f"`{text}`" if text else "required" if variable.required else variable.default
        lines.append(f"| {names} | {default} | {entry.range} | {variable.words.replace('|', chr(92) + '|')} |")
    return "\n".join(lines).strip("\n")


def exit_code_table() -> str:
    """The table of exit codes."""
    rows = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


TABLES: dict[str, Callable[[], str]] = {"settings": settings_table, "exit codes": exit_code_table}
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "reference.md")


def with_tables(text: str) -> str:
    """A document with its tables made again."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: made by python -m tests.reference -->\n", f"<!-- end of {name} -->"
        if begin in text:
            before, rest = text.split(begin)
            _, after = rest.split(end)
            text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def files() -> Iterator[tuple[Path, str]]:
    """Every file that is made, and what it should hold."""
    yield ROOT / ".env.example", example()
    for document in DOCUMENTS:
        yield document, with_tables(document.read_text(encoding="utf-8"))


def main() -> None:
    """Write them."""
    for path, text in files():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
