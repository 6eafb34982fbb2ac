"""The pages: ``/``, ``/file``, what the script asks for (``/live``), and the few files that belong to them.

Whatever is asked, the answer is a page: a key or a dataset that nobody knows is 404, a year that is none is 400.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date

from aiohttp import web

from polyb2.core.coverage import YearCalendar
from polyb2.core.keys import FileName
from polyb2.web.days import coverage, latest_year
from polyb2.web.markup import Markup, h, join
from polyb2.web.now import as_of, now, state_line, trouble
from polyb2.web.queue import errors, queue
from polyb2.web.sharing import Shared
from polyb2.web.shell import ASSETS, asset, document, section
from polyb2.web.sight import Recent, Sight
from polyb2.web.story import lookup, story_page, unknown_page

KEY_MAX = 1024


class Pages:
    """The handlers; what all viewers see alike is made once a second."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._parts = Shared(self._live_parts)
        self._drawn: tuple[tuple[Recent, Mapping[str, range], YearCalendar | None], Markup] | None = None

    def routes(self) -> list[web.RouteDef]:
        assets = [web.get(f"/{name}", _serving(name, kind)) for name, kind in ASSETS.items()]
        return [web.get("/", self.overview), web.get("/live", self.live), web.get("/file", self.file),
                web.get("/file/{prefix}/{type}/{date}", self.file), *assets]  # fmt: skip

    async def overview(self, request: web.Request) -> web.Response:
        years = await self._sight.years()
        calendar = await self._chosen_calendar(request.query, years)
        parts = await self._parts.get()
        header = join([parts["state"], parts["as-of"], _navigation()])
        main = [
            h("h1", "Mirror of flat files", class_="hidden"),
            [parts[name] for name in ("trouble", "now", "queue", "errors")],
            self._coverage(await self._sight.recent(), years, calendar),
            section("lookup", "A file's story", lookup()),
        ]
        return document("polyb2", header, main, live=True)

    def _coverage(self, recent: Recent, years: Mapping[str, range], calendar: YearCalendar | None) -> Markup:
        """The largest part of the page; drawn once as long as nothing new was read."""
        facts = (recent, years, calendar)
        if self._drawn is None or any(old is not new for old, new in zip(self._drawn[0], facts, strict=True)):
            self._drawn = facts, coverage(*facts)
        return self._drawn[1]

    async def live(self, _request: web.Request) -> web.Response:
        """The parts of the overview that change, for the script."""
        parts = await self._parts.get()
        return web.Response(text=join(parts.values()), content_type="text/html", charset="utf-8")

    async def file(self, request: web.Request) -> web.Response:
        key = _key_of(request)
        story = await (await self._sight.ledger()).history(key) if key else None
        if story is None:
            answer = document("A file's story · polyb2", _back(), unknown_page(key))
            answer.set_status(404 if key else 200)
            return answer
        told = story.as_json()
        return document(f"{told['date']} {told['dataset']} · polyb2", _back(), story_page(told))

    async def _live_parts(self) -> Mapping[str, Markup]:
        sight = self._sight
        picture = await sight.picture()
        return {
            "state": state_line(sight, picture),
            "as-of": as_of(picture),
            "trouble": trouble(sight),
            "now": now(sight, picture),
            "queue": queue(picture),
            "errors": errors(picture),
        }

    async def _chosen_calendar(self, query: Mapping[str, str], years: Mapping[str, range]) -> YearCalendar | None:
        """The calendar that the query asks for; the first chosen dataset's newest year where it asks for none."""
        recent = await self._sight.recent()
        dataset = query.get("dataset") or next(iter([*recent.days, *years]), None)
        if dataset is None:
            return None
        if dataset not in years:
            if "dataset" in query:
                raise web.HTTPNotFound(text=f"The ledger knows no dataset {dataset[:200]!r}.")
            return None
        known = years[dataset]
        asked = query.get("year", "")
        if not asked:
            year = latest_year(known, self._sight.subject.mirror.ledger.clock.today())
        elif asked.isascii() and asked.isdecimal() and len(asked) == len("2024") and int(asked):
            year = int(asked)
        else:
            raise web.HTTPBadRequest(text="A year has four digits.")
        # Another dataset was chosen, and the year of the one before is not among its own.
        return await self._sight.calendar(dataset, min(max(year, known.start), max(known.stop - 1, known.start)))


def _serving(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_request: web.Request) -> web.Response:
        return web.Response(
            body=asset(name), content_type=kind, charset="utf-8", headers={"Cache-Control": "max-age=86400"}
        )

    return serve


def _key_of(request: web.Request) -> str:
    """The key that is asked for, by itself or by dataset and date; what is none is given back for the answer to name."""
    parts = request.match_info
    if not parts:
        return request.query.get("key", "").strip()[:KEY_MAX]
    try:
        day = date.fromisoformat(parts["date"])
    except ValueError:
        return "/".join(parts.values())[:KEY_MAX]
    return FileName(f"{parts['prefix']}/{parts['type']}", day).key


def _navigation() -> Markup:
    parts = {"now": "Now", "queue": "Queue", "errors": "Errors", "coverage": "Coverage"}
    return h("nav", [h("a", words, href=f"#{name}") for name, words in parts.items()], aria_label="Parts of the page")


def _back() -> Markup:
    return h("nav", h("a", "Overview", href="/"), aria_label="Pages")
