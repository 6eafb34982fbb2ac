"""The frame of every page: head, header and footer; and the words that pages share."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from importlib.resources import files
from urllib.parse import quote

from aiohttp import web

from polyb2 import __version__
from polyb2.core.keys import parse_key
from polyb2.web.markup import Child, Markup, h, join

NOTHING = "\N{EN DASH}"
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def asset(name: str) -> bytes:
    return files("polyb2.web").joinpath("assets", name).read_bytes()


@cache
def asset_url(name: str) -> str:
    """Where an asset is; another content has another URL, so that browsers may keep it."""
    return f"/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


def document(title: str, header: Child, main: Child, *, live: bool = False) -> web.Response:
    """A whole page.

    Args:
        title: of the window.
        header: what stands beside the name.
        main: the content.
        live: whether the script keeps it up to date.
    """
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", title),
        h("link", rel="icon", href=asset_url("icon.svg")),
        h("link", rel="stylesheet", href=asset_url("page.css")),
        h("script", src=asset_url("page.js"), defer=True),
    )
    body = h(
        "body",
        h("a", "Skip to the content", class_="skip", href="#main"),
        h("header", h("a", "polyb2", class_="brand", href="/"), header, class_="top"),
        h("main", main, id="main", tabindex=-1),
        h("footer", h("p", f"polyb2 {__version__}. This page only shows; to act, use the command line.")),
        data_live=live,
    )
    text = f"<!DOCTYPE html>{h('html', head, body, lang='en')}"
    return web.Response(text=text, content_type="text/html", charset="utf-8")


def problem_page(status: int, title: str, words: str) -> web.Response:
    """A page that says why there is none."""
    main = h(
        "section", h("h1", title), h("p", words), h("p", h("a", "To the overview", href="/")), class_="card problem"
    )
    answer = document(f"{title} · polyb2", None, main)
    answer.set_status(status)
    return answer


def clock_time(epoch_ms: int) -> Markup:
    """A moment to the second, in UTC."""
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return h("time", f"{moment:%H:%M:%S} UTC", datetime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def day_time(text: str | None) -> Markup | str:
    """An ISO moment as people read it, to the second."""
    return h("time", f"{text[:10]} {text[11:19]}", datetime=text) if text else NOTHING


def file_url(key: str) -> str:
    """Where a file's story is told."""
    name = parse_key(key)
    if name is None:
        return f"/file?key={quote(key, safe='/')}"
    return day_url(name.dataset, name.date)


def day_url(dataset: str, day: date) -> str:
    """Where the story of a dataset's file of a day is told."""
    return f"/file/{_quoted(dataset)}/{day.isoformat()}"


@lru_cache(maxsize=256)
def _quoted(dataset: str) -> str:
    """A calendar asks for the same a thousand times."""
    return quote(dataset, safe="/")


def file_link(key: str) -> Markup:
    """A file by its date and dataset, linked to its story."""
    name = parse_key(key)
    if name is None:
        return h("a", key, href=file_url(key), class_="file")
    return h(
        "a", h("b", name.date.isoformat()), " ", h("span", breakable(name.dataset)), href=file_url(key), class_="file"
    )


def breakable(dataset: str) -> Markup:
    """A dataset that may be broken into two lines after its slash."""
    return join([piece if not number else [h("wbr"), piece] for number, piece in enumerate(_pieces(dataset))])


def _pieces(dataset: str) -> list[str]:
    head, slash, tail = dataset.partition("/")
    return [head + slash, tail] if slash else [head]


def bar(share: float) -> Markup:
    """A bar that is filled to a share of 0 to 1; the figure stands beside it, for those who cannot see it too."""
    return h("progress", max=100, value=f"{100 * min(1.0, max(0.0, share)):.1f}", aria_hidden="true")


def section(name: str, title: str, *content: Child, class_: str = "") -> Markup:
    """A part of the page with a heading; the script renews the parts that have the class ``live``."""
    return h(
        "section", h("h2", title, id=f"{name}-title"), *content, id=name, class_=f"card {class_}".strip(),
        aria_labelledby=f"{name}-title",
    )  # fmt: skip


def scrolling(label: str, table: Markup) -> Markup:
    """A table that scrolls by itself where the screen is narrow, with the keyboard as well."""
    return h("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def command(words: str) -> Markup:
    """A command to copy."""
    return h("code", words, class_="command", tabindex=0)
