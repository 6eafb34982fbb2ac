"""News for the owner of a mirror, and the digest that combines several items into one message.

An item that is sent only once, such as a complete day, has a name; an item without a name is sent each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from polyb2.core.scrub import one_line

LINES_MAX = 20
"""Lines of one topic in a message."""


class Topic(Enum):
    """The subject of an item, the worst first: the words for one and for several."""

    FAILED = ("run failed", "runs failed")
    STOPPED = ("side stopped", "sides stopped")
    VERIFY = ("difference found", "differences found")
    UNFINISHED = ("file not completed", "files not completed")
    LATE = ("file late", "files late")
    REVISED = ("file revised", "files revised")
    COMPLETE = ("day complete", "days complete")
    ENDED = ("run ended", "runs ended")

    def counted(self, count: int) -> str:
        one, several = self.value
        return f"{count} {one if count == 1 else several}"


@dataclass(frozen=True, slots=True)
class News:
    """One item of news.

    Attributes:
        topic: its subject.
        line: a line for people, without secrets.
        name: the item is sent only once under this name; that of a lasting state begins with fixed words.
    """

    topic: Topic
    line: str
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", one_line(self.line))


@dataclass(frozen=True, slots=True)
class Digest:
    """One message."""

    title: str
    body: str


def digest(news: Iterable[News], where: str) -> Digest:
    """Combine all news into one message, the worst first.

    Args:
        news: at least one item.
        where: the mirror that it is about, for readers with several.
    """
    order = list(Topic)
    ranked = sorted(news, key=lambda piece: order.index(piece.topic))
    heads: list[str] = []
    lines: list[str] = []
    for topic, group in groupby(ranked, key=lambda piece: piece.topic):
        pieces = list(group)
        heads.append(topic.value[0] if topic in {Topic.FAILED, Topic.ENDED} else topic.counted(len(pieces)))
        lines += _lines(topic, pieces)
    return Digest(f"polyb2: {', '.join(heads)}", "\n".join([*lines, "", where]))


def _lines(topic: Topic, pieces: Sequence[News]) -> list[str]:
    shown = [piece.line for piece in pieces[:LINES_MAX]]
    more = len(pieces) - len(shown)
    return shown + ([f"and {topic.counted(more)} more"] if more else [])
