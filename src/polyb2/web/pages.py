"""The routes of the page: ``/``, ``/file``, ``/live`` for the script, and the assets.

Every request is answered with a page: an unknown key or dataset is 404, a year that is not a number of four digits is 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from aiohttp import web
from markupsafe import Markup

from polyb2.core.coverage import YearCalendar
from polyb2.core.keys import FileName
from polyb2.web.days import coverage_of, latest_year
from polyb2.web.failures import discover_command
from polyb2.web.history import history_of
from polyb2.web.overview import overview_of
from polyb2.web.render import ASSETS, asset, page, render
from polyb2.web.snapshot import Recent, SingleFlight, Snapshots

KEY_MAX = 1024
_Facts = tuple[Recent, Mapping[str, range], YearCalendar | None]


class Pages:
    """The handlers; parts that all viewers see alike are rendered once a second."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._live = SingleFlight(self._render_live)
        self._coverage: tuple[_Facts, Markup] | None = None

    def routes(self) -> list[web.RouteDef]:
        assets = [web.get(f"/{name}", _asset) for name in ASSETS]
        return [web.get("/", self.overview), web.get("/live", self.live), web.get("/file", self.file),
                web.get("/file/{prefix}/{type}/{date}", self.file), *assets]  # fmt: skip

    async def overview(self, request: web.Request) -> web.Response:
        years = await self._snapshots.years.get()
        calendar = await self._chosen_calendar(request.query, years)
        state, live = await self._live.get()
        coverage = self._render_coverage((await self._snapshots.recent.get_stale(), years, calendar))
        return page("overview.html", state=state, live=live, coverage=coverage)

    async def live(self, _request: web.Request) -> web.Response:
        """The parts of the overview that change, for the script."""
        parts = await self._live.get()
        return web.Response(text="".join(parts), content_type="text/html", charset="utf-8")

    async def file(self, request: web.Request) -> web.Response:
        key = _key_of(request)
        found = await self._snapshots.history(key) if key else None
        if found is None:
            return page("unknown.html", 404 if key else 200, key=key, discover=discover_command(key))
        return page("history.html", history=history_of(found))

    async def _render_live(self) -> tuple[Markup, Markup]:
        now = overview_of(await self._snapshots.current.get(), self._snapshots.process())
        return render("state.html", now=now), render("live.html", now=now)

    def _render_coverage(self, facts: _Facts) -> Markup:
        """The largest part of the page; it is rendered again only after something new was read."""
        if self._coverage is None or any(old is not new for old, new in zip(self._coverage[0], facts, strict=True)):
            recent, years, calendar = facts
            coverage = None if calendar is None else coverage_of(recent, years, calendar)
            self._coverage = facts, render("coverage.html", coverage=coverage)
        return self._coverage[1]

    async def _chosen_calendar(self, query: Mapping[str, str], years: Mapping[str, range]) -> YearCalendar | None:
        """The calendar that the query asks for; without a dataset the newest year of the first that is selected."""
        recent = await self._snapshots.recent.get_stale()
        dataset = query.get("dataset") or next(iter([*recent.days, *years]), None)
        if dataset is None:
            return None
        if dataset not in years:
            if "dataset" in query:
                raise web.HTTPNotFound(text=f"The ledger knows no dataset {dataset[:200]!r}.")
            return None
        known = years[dataset]
        year = _year_of(query.get("year", "")) or latest_year(known, self._snapshots.today())
        # Where the dataset was changed, the year may be one of the dataset before.
        return await self._snapshots.calendar(dataset, min(max(year, known.start), max(known.stop - 1, known.start)))


async def _asset(request: web.Request) -> web.Response:
    name, kept = request.path.removeprefix("/"), {"Cache-Control": "max-age=86400"}
    return web.Response(body=asset(name), content_type=ASSETS[name], charset="utf-8", headers=kept)


def _year_of(asked: str) -> int | None:
    if not asked:
        return None
    if not (asked.isascii() and asked.isdecimal() and len(asked) == len("2024") and int(asked)):
        raise web.HTTPBadRequest(text="A year has four digits.")
    return int(asked)


def _key_of(request: web.Request) -> str:
    """The key that is asked for, by itself or by dataset and date; or text that cannot be a key, for the answer to name."""
    parts = request.match_info
    if not parts:
        return request.query.get("key", "").strip()[:KEY_MAX]
    try:
        day = date.fromisoformat(parts["date"])
    except ValueError:
        return "/".join(parts.values())[:KEY_MAX]
    return FileName(f"{parts['prefix']}/{parts['type']}", day).key
