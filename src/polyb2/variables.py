"""The variables that polyb2 is given, by the environment and by ``.env``: read safely, tidied, and checked for unknown names.

A ``.env`` is whatever lies in the working folder under that name: it is opened without waiting, read up to a bound, and
passed over with a word where it cannot be used. Values are never repeated here, as they may be keys.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOTENV = Path(".env")
DOTENV_BYTES_MAX = 1 << 20
REFERENCES_MAX = 100
"""Of ``${NAME}`` in it: the library's expression looks from each to the end of the value, and no signal interrupts it."""
PREFIXES = ("polyb2_", "b2_", "polygon_s3_", "massive_s3_")
NOT_BUILT = {"polyb2_order", "polyb2_first"}
"""Names of settings that are planned, and that nothing reads yet."""
_FOR_TESTS = {"polyb2_fake_now", "polyb2_failpoints"}
_OF_OTHER_TOOLS = {
    "b2_application_key_id": "B2_KEY_ID",
    "b2_account_id": "B2_KEY_ID",
    "b2_account_key": "B2_APPLICATION_KEY",
}
_SERVICE_LINK = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)", re.ASCII
)
"""Variables that Kubernetes gives each container, of a service that is called polyb2 or b2."""
_SHOWN_MAX = 10
_SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True)
class Dotenv:
    """The content of ``.env``.

    Attributes:
        values: by name as written, tidied.
        trouble: why it or some of its lines were passed over, in words; nothing where all was read or it is not there.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


def of_environment() -> dict[str, str]:
    """The environment by name; a pair of quotes, as ``docker --env-file`` leaves it, is taken off as in ``.env``."""
    return {name: tidy(value) for name, value in os.environ.items()}


def tidy(value: str) -> str:
    """A value without white space around it, and without a pair of quotes around all of it."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].strip()
    return value


def of_dotenv() -> Dotenv:
    """The variables of ``.env`` in the working folder."""
    from dotenv import dotenv_values  # noqa: PLC0415 - not needed where there is no file
    from dotenv.parser import parse_stream  # noqa: PLC0415

    try:
        text = _text_of(DOTENV)
    except FileNotFoundError:
        return Dotenv()
    except (OSError, ValueError) as error:
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        return Dotenv(trouble=f".env is passed over: {why}")
    logging.getLogger("dotenv.main").disabled = True  # it logs the same in a form of its own
    found = dotenv_values(stream=io.StringIO(text))
    wrong = [str(line.original.line) for line in parse_stream(io.StringIO(text)) if line.error]
    return Dotenv(
        {name: value.strip() for name, value in found.items() if value is not None},
        f".env: passed over what is not NAME=value, in line {_few(wrong)}" if wrong else "",
    )


def _few(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN_MAX]) + (" and others" if len(words) > _SHOWN_MAX else "")


def _text_of(path: Path) -> str:
    """The text of a file that may be anything.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not to be used; in words.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        if planter := _planted_by(path, found):
            raise ValueError(f"user {planter} put it into a folder that everybody can write to")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(DOTENV_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > DOTENV_BYTES_MAX:
        raise ValueError(f"it is larger than {DOTENV_BYTES_MAX >> 20} MiB")
    if content.count(b"${") > REFERENCES_MAX:
        raise ValueError(f"it refers to other variables (${{...}}) more than {REFERENCES_MAX} times")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text; save it as UTF-8") from None


def _planted_by(path: Path, found: os.stat_result) -> int | None:
    """The id of another user, not root, who could have planted the file: anybody can write to its folder."""
    if not path.absolute().parent.stat().st_mode & stat.S_IWOTH:
        return None
    ours = {0, os.geteuid()}
    return next((owner for owner in (found.st_uid, path.lstat().st_uid) if owner not in ours), None)


def dotenv_exposed() -> str:
    """Access of others to ``.env``, in words; nothing where all is well or there is none."""
    try:
        mode = DOTENV.stat().st_mode
    except OSError:
        return ""
    if mode & (stat.S_IWOTH | stat.S_IWGRP):
        return "others can write to .env"
    return "others can read .env" if mode & stat.S_IROTH else ""


def notices(known: Iterable[str]) -> list[str]:
    """Warnings about the variables: a ``.env`` that was passed over, and names that look like settings and are none.

    Args:
        known: the names of all settings.
    """
    dotenv = of_dotenv()
    names = sorted(set(known) | _FOR_TESTS)
    odd = [(name, "in the environment") for name in os.environ if _is_odd(name, names)]
    odd += [(name, "in .env") for name in dotenv.values if _is_odd(name, names)]
    said = [_words_of(name, where, names) for name, where in odd[:_SHOWN_MAX]]
    if len(odd) > _SHOWN_MAX:
        said.append(f"and {len(odd) - _SHOWN_MAX} more names that are no settings of polyb2")
    return [dotenv.trouble] * bool(dotenv.trouble) + said


def _is_odd(name: str, known: list[str]) -> bool:
    lower = name.lower()
    return lower.startswith(PREFIXES) and lower not in known and not _SERVICE_LINK.fullmatch(name)


def _words_of(name: str, where: str, known: list[str]) -> str:
    lower = name.lower()
    shown = name if name.isascii() and name.isidentifier() else ascii(name)
    if lower in NOT_BUILT:
        return f"{shown[:_SHOWN_CHARS]} {where} has no effect in this version"
    nearest = _OF_OTHER_TOOLS.get(lower) or _nearest(lower, known)
    return f"{shown[:_SHOWN_CHARS]} {where} is no setting of polyb2 and has no effect; the nearest is {nearest.upper()}"


def _nearest(name: str, known: list[str]) -> str:
    """The setting that was most likely meant: one that begins with the name, else the most similar."""
    from difflib import get_close_matches  # noqa: PLC0415 - for a mistyped name

    name = name[:_SHOWN_CHARS]
    longer = [setting for setting in known if setting.startswith(name)]
    return min(longer, key=len) if longer else get_close_matches(name, known, 1, 0.0)[0]
