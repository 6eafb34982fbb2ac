"""HTML from the templates, and the assets that belong to it: the only place that makes markup.

Invariants: every expression of a template is text, unless a template or macro made it. Text is escaped for HTML, and a
character that steers a terminal or turns the direction of writing is written out (:func:`polyb2.core.scrub.escape`). Both
are the environment's doing, so a template cannot forget them. A misspelt name is an error, not an empty string.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polyb2 import __version__
from polyb2.core.keys import parse_key
from polyb2.core.scrub import escape
from polyb2.core.status import PARKED
from polyb2.core.units import format_duration, format_size, iso_utc
from polyb2.web.failures import ALL_FAILURES
from polyb2.web.history import file_url
from polyb2.web.signs import STATUS_SIGNS

NOTHING = "\N{EN DASH}"
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


def render(template: str, **values: object) -> Markup:
    """A template filled with values; the result may be put into another template."""
    return Markup(_environment().get_template(template).render(values))  # noqa: S704 - the template has escaped it


def page(template: str, status: int = 200, **values: object) -> web.Response:
    """A template of a whole page, as an answer."""
    return web.Response(text=render(template, **values), status=status, content_type="text/html", charset="utf-8")


def problem_page(status: int, title: str, words: str) -> web.Response:
    """A page that says why there is no other."""
    return page("problem.html", status, title=title, words=words)


@cache
def asset(name: str) -> bytes:
    return files("polyb2.web").joinpath("assets", name).read_bytes()


@cache
def asset_url(name: str) -> str:
    """The URL of an asset; another content has another URL, so that browsers may keep it."""
    return f"/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("polyb2.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"version": __version__, "asset_url": asset_url, "failures_command": ALL_FAILURES}
    environment.tests["parked"] = PARKED.__contains__
    environment.filters |= {
        "size": format_size,
        "duration": lambda seconds: None if seconds is None else format_duration(seconds),
        "percent": lambda share, digits=0: f"{100 * share:.{digits}f} %",
        "iso": iso_utc,
        "thousands": lambda number: f"{number:,}",
        "file_name": parse_key,
        "file_url": file_url,
        "sign": STATUS_SIGNS.__getitem__,
    }
    return environment


def _finalized(value: object) -> object:
    """The value of an expression as it may be shown; a dash for one that is absent."""
    if value is None:
        return NOTHING
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value
