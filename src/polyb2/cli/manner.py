"""How this process speaks: quiet or not, as text or as JSON, with tracebacks or without. ``main`` decides it once.

The options stand before or after the command; they are taken off the line here, before the library parses the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyb2.core.errors import UsageError
from polyb2.variables import tidy

if TYPE_CHECKING:
    from polyb2.config import Settings

FORMATS = ("text", "json")
_FORMAT = "--log-format"
_SWITCHES = {"--debug": "debug", "--quiet": "quiet", "-q": "quiet"}


@dataclass(slots=True)
class Manner:
    """How the process speaks.

    Attributes:
        quiet: nothing but errors on stderr and what was asked for on stdout.
        debug: a traceback where something fails.
        log_format: ``text`` or ``json``; None until somebody says so, which is text.
    """

    quiet: bool = False
    debug: bool = False
    log_format: str | None = None

    @property
    def is_json(self) -> bool:
        return self.log_format == "json"

    def take(self, words: list[str]) -> list[str]:
        """Take the options off the command line; what is left.

        Raises:
            UsageError: ``--log-format`` names none.
        """
        self.quiet, self.debug = False, False
        # The environment counts from the first word on; .env when the settings are read.
        given = tidy(os.environ.get("POLYB2_LOG_FORMAT", "")).lower()
        self.log_format = given if given in FORMATS else None
        left: list[str] = []
        waiting = iter(words)
        for word in waiting:
            name, equals, value = word.partition("=")
            if word == "--":
                return [*left, word, *waiting]
            if word in _SWITCHES:
                setattr(self, _SWITCHES[word], True)
            elif name == _FORMAT:
                self.log_format = _known(value if equals else next(waiting, ""))
            else:
                left.append(word)
        return left


MANNER = Manner()


def configured(**overrides: object) -> Settings:
    """The settings of this process, and its manner of speaking by them; what is odd about the variables is said first.

    Raises:
        UsageError: a line for each wrong setting.
    """
    from polyb2.cli.logs import tell_warning
    from polyb2.config import load_settings, setting_notices

    settings: Settings | None = None
    try:
        settings = load_settings(**overrides)
        MANNER.log_format = MANNER.log_format or settings.polyb2_log_format
    finally:
        for words in setting_notices():
            tell_warning(words)
    return settings


def _known(value: str) -> str:
    if value not in FORMATS:
        raise UsageError(f"{_FORMAT}: {value!r} is not a format: write {' or '.join(FORMATS)}")
    return value
