"""The console of every result and of the live display: nothing foreign reaches the terminal unescaped, whoever prints it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from polyb2.core.scrub import shown


class SafeConsole(Console):
    """A console without markup or guessing, whose text is scrubbed and escaped after it was laid out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))
