"""HTML from Python values: every text is escaped where it enters, so that a key with markup in its name is text.

Only what :func:`h` made is markup; all else that is put into it is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_PLAIN = re.compile(r"[A-Za-z0-9_./-]*[A-Za-z0-9_.-]")
"""What HTML takes as an attribute without quotes; a calendar has a thousand of them."""
_WITHOUT_END = frozenset({"br", "hr", "input", "link", "meta", "wbr", "td", "th", "tr"})
"""Void elements, and those that end by themselves where the next begins."""


class Markup(str):
    """Markup that needs no escaping."""

    __slots__ = ()


Child = str | int | Iterable["Child"] | None
Attribute = str | float | bool | None


def h(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """An element.

    Args:
        tag: its name.
        children: text (escaped), markup, numbers, lists of these; None is nothing.
        attributes: ``class_`` and ``aria_label`` become ``class`` and ``aria-label``; True is an attribute without a value,
            False and None leave it out.
    """
    start = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    end = "" if tag in _WITHOUT_END else f"</{tag}>"
    return Markup(f"{start}{join(children)}{end}")


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other."""
    return Markup("".join(map(_shown, children)))


def _shown(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return escape(str(child))
    return join(child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    word = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {word}"
    text = str(value)
    return f" {word}={text}" if _PLAIN.fullmatch(text) else f' {word}="{escape(text)}"'
