"""The page in a real browser: what it loads, what it says, how it goes on, and for whom it works."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from polyb2.sandbox import Answer, Call, Fault
from tests.conftest import DAY_AGGS, QUOTES, Bench, Gate, key
from tests.web.chromium import Tab
from tests.web.conftest import Serving

SMALL = key("2024-01-02")
MARKUP = "<img src=x onerror=alert(1)>"
WIDTHS = (360, 1280)
PATHS = ("/", f"/file?key={SMALL}", "/file", "/nothing/here", f"/?dataset={quote(f'{MARKUP}/day_aggs_v1')}")


@pytest.fixture
async def filled(bench: Bench) -> Bench:
    for day in ("2024-01-02", "2024-01-03", "2023-12-29"):
        bench.box.source.put(key(day), b"x" * 1000)
    bench.box.source.put(key("2024-01-02", f"{MARKUP}/day_aggs_v1"), b"a dataset with markup in its name")
    bench.box.source.put(key("2024-01-02", QUOTES), b"refused")
    bench.box.source.inject(Fault("get", Answer(405, "MethodNotAllowed", MARKUP), key=f"{QUOTES}/*", times=0))
    await bench.mirror_all()
    return bench


async def words(tab: Tab, selector: str) -> str:
    return str(await tab.value(f"document.querySelector({selector!r})?.innerText ?? ''"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
async def test_it_loads_nothing_from_elsewhere_breaks_no_rule_and_fits(
    filled: Bench, serving: Serving, tab: Tab, width: int, dark: bool
) -> None:
    async with serving() as site:
        await tab.look_like(width, dark=dark)
        for path in PATHS:
            await tab.open(site.url + path)
            assert await tab.value("document.documentElement.scrollWidth <= innerWidth"), path
            assert await tab.value("document.querySelectorAll('img').length") == 0
            background = await tab.value("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, background.strip("rgb()").split(","))) < 200) is dark
        assert all(url.startswith((site.url, "data:")) for url in tab.asked)
        # What answers 404 is named by the browser itself; scripts, styles and the policy have nothing to say.
        assert [said for said in tab.complaints if "404" not in said] == []


async def test_the_live_parts_go_on_by_themselves(filled: Bench, serving: Serving, tab: Tab) -> None:
    """A file comes, is in flight with its progress, and is done; nothing is loaded anew by hand."""
    gate, new = Gate(), key("2024-01-05")
    async with serving(polyb2_datasets=[DAY_AGGS]) as site:
        await tab.open(site.url)
        await tab.value("window.untouched = true")
        assert "Up to date" in await words(tab, "#state")
        filled.box.target.inject(Fault("put", Call(gate.hold, when="after"), key=new))
        filled.box.source.put(new, b"y" * 1000)
        await filled.discover(polyb2_datasets=[DAY_AGGS])
        await tab.until("document.querySelector('#now').innerText.includes('2024-01-05')")
        assert "100 %" in await words(tab, "#now tbody")
        assert "Transferring" in await words(tab, "#state")
        gate.open()
        await tab.until("document.querySelector('#now').innerText.includes('No file is in flight')")
        await tab.until("document.querySelector('#state').innerText.includes('Up to date')")
        assert await tab.value("window.untouched")
        assert tab.complaints == []


async def test_a_page_that_is_left_alone_says_so(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.open(site.url)
        assert await tab.value("document.body.classList.contains('stale')") is False
    await tab.until("document.body.classList.contains('stale')")
    assert "polyb2 does not answer; what is shown is as of" in await words(tab, "#as-of")


async def test_without_scripts_all_but_the_live_parts_work(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.look_like(1280, scripts=False)
        await tab.open(site.url)
        assert "Up to date" in await words(tab, "#state")
        assert "permanent failure" in await words(tab, "#queue")
        assert f"polyb2 retry {key('2024-01-02', QUOTES)}" in await words(tab, "#errors")
        assert "January 2024" in await words(tab, "#year")
        assert await tab.value("getComputedStyle(document.querySelector('#pointed')).display") == "none"
        # The choice is a form, and a day is a link.
        await tab.value(f"document.querySelector('[name=dataset]').value = {DAY_AGGS!r}")
        await leave(tab, "document.querySelector('#coverage form button').click()")
        assert "dataset=" in await tab.value("location.href")
        await leave(tab, "document.querySelector('#year a[title^=mirrored]').click()")
        assert await tab.value("location.pathname") == f"/file/{DAY_AGGS}/2024-01-02"
        assert "completed" in await words(tab, "main")


async def leave(tab: Tab, expression: str) -> None:
    """Do what leads to another page, and wait for it."""
    await tab.value(f"document.body.id = 'left'; {expression}; 0")
    await tab.until("document.readyState === 'complete' && document.body.id !== 'left'")


async def test_pointing_at_a_day_and_choosing_another_year(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.look_like(1280)
        await tab.open(f"{site.url}/?dataset={DAY_AGGS}&year=2024")
        place = await tab.value(
            "(() => { const day = document.querySelector('#year a[title^=mirrored]');"
            " day.scrollIntoView({behavior: 'instant', block: 'center'});"
            " const box = day.getBoundingClientRect(); return [box.x + 4, box.y + 4]; })()"
        )
        await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        await tab.until("document.querySelector('#pointed').textContent === '2024-01-02: mirrored, 1.0 kB'")
        await leave(
            tab,
            "const year = document.querySelector('[name=year]'); year.value = '2023';"
            " year.dispatchEvent(new Event('change', {bubbles: true}))",
        )
        assert "December 2023" in await words(tab, "#year")
        assert tab.complaints == []


async def test_the_keyboard_goes_everywhere_and_is_seen(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.look_like(1280)
        await tab.open(site.url)
        await tab.press("Tab")
        assert await words(tab, ":focus") == "Skip to the content"
        assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert await tab.value("document.activeElement.getBoundingClientRect().left") >= 0
        await tab.press("Enter")
        assert await tab.value("document.activeElement.id") == "main"
        reached = set()
        for _ in range(40):
            await tab.press("Tab")
            reached.add(await tab.value("document.activeElement.closest('section')?.id ?? ''"))
        assert {"queue", "errors", "coverage"} <= reached


async def test_focus_stays_where_it_was_when_a_part_is_renewed(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.open(site.url)
        await tab.value("document.querySelector('#queue tbody tr:nth-child(2) a').focus()")
        focused = await words(tab, ":focus")
        await tab.value("document.querySelector('#queue').dataset.old = 'yes'")
        await tab.until("document.querySelector('#queue').dataset.old === undefined")
        assert await words(tab, ":focus") == focused


async def test_screen_readers_find_landmarks_headings_and_names(filled: Bench, serving: Serving, tab: Tab) -> None:
    async with serving() as site:
        await tab.open(site.url)
        await tab.call("Accessibility.enable")
        nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    shown = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = {role for role, _ in shown}
    assert {"banner", "main", "navigation", "contentinfo", "status", "heading", "table", "region"} <= roles
    for role in ("link", "button", "combobox", "textbox", "region", "table"):
        assert [name for found, name in shown if found == role and not name.strip()] == [], role
    assert ("heading", "Last errors") in shown
