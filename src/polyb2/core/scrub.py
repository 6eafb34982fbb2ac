"""The filter of all output: it removes our keys, signed URLs, and characters that control a terminal.

Foreign text is cut first, and every expression here takes at most linear time.
"""

from __future__ import annotations

import re

LONGEST = 50_000
"""Characters of one text that are looked at and shown."""
_MARGIN = 1000
"""Longer than a key or its percent-encoded form, so that none is cut in two before it is seen."""
_SHORTEST_SECRET = 8
_QUERY = re.compile(r"(?<=[^\s'\"<>])\?[^\s'\"<>]*")
_SIGNED = re.compile(r"(X-Amz-(?:Signature|Credential)|Signature|Credential)=[^\s&,'\"<>]+", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=//)[^\s/@'\"<>]{1,300}@")
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_LATIN = 0xFF


class _Secrets:
    """The keys of this process; settings add theirs once, when they are read."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secrets: tuple[str | None, ...]) -> None:
        fresh = {secret for secret in secrets if secret and len(secret) >= _SHORTEST_SECRET} - self._known
        if fresh:
            self._known |= fresh
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join("".join(map(_either_form, secret)) for secret in longest_first))

    def blanked(self, text: str) -> str:
        return self._pattern.sub("...", text) if self._pattern else text


def _either_form(character: str) -> str:
    """An expression for a character as it is, or percent-encoded in either case."""
    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [re.escape(character), encoded, encoded.upper()]
    return "(?:" + "|".join(dict.fromkeys([*forms, *([r"\+"] if character == " " else [])])) + ")"


_SECRETS = _Secrets()


def hide(*secrets: str | None) -> None:
    """Blank these ids and keys from now on, wherever they would be shown."""
    _SECRETS.add(secrets)


def scrub(text: str) -> str:
    """The text without our keys, query strings and signatures, cut to a readable length."""
    seen = _SECRETS.blanked(text[: LONGEST + _MARGIN])
    seen = _LOGIN.sub("...@", _SIGNED.sub(r"\1=...", _QUERY.sub(_without_query, seen)))
    return seen if len(text) <= LONGEST else f"{seen[:LONGEST]}..."


def _without_query(found: re.Match[str]) -> str:
    query = found[0]
    return "?..." if "=" in query or "&" in query else query


def escape(text: str) -> str:
    r"""The text with every terminal control character written out, as ``\x1b``: always one line."""
    return _STEERING.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number <= _LATIN else f"\\u{number:04x}"


def shown(text: str) -> str:
    """The text as it may be shown: scrubbed and escaped; lines stay lines."""
    return "\n".join(escape(line) for line in scrub(text).split("\n"))


def one_line(text: str) -> str:
    """The text as it may be shown, on one line; white space between words is one blank."""
    return escape(" ".join(scrub(text).split()))
