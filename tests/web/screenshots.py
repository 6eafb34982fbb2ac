"""Makes the pictures of the page, for docs/images and to look at: ``python -m tests.web.screenshots FOLDER``.

A sandbox, the real engine and the real page, in a headless Chromium: light and dark, wide and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
from pathlib import Path

from polyb2.clock import FAKE_NOW
from polyb2.flow.mirror import Mirror
from tests.conftest import key
from tests.web.chromium import Tab, browser
from tests.web.scene import BROKEN, NOW, REPLACED, mirror_at_work

WIDE, PHONE = 1280, 360
SHOTS = (
    ("page-light", WIDE, False, "/"),
    ("page-dark", WIDE, True, "/"),
    ("page-phone", PHONE, False, "/"),
    ("page-phone-dark", PHONE, True, "/"),
    ("history-light", WIDE, False, f"/file?key={key(REPLACED[1].isoformat(), REPLACED[0])}"),
    ("history-phone-dark", PHONE, True, f"/file?key={key(BROKEN[1].isoformat(), BROKEN[0])}"),
)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--seconds", type=float, default=240, help="how long the mirror works before them")
    asked = parser.parse_args()
    os.environ[FAKE_NOW] = NOW
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="polyb2-scene-") as folder:
        async with mirror_at_work(Path(folder)) as (url, mirror, _box), browser() as tab:
            await _work(mirror, asked.seconds)
            for name, width, dark, path in SHOTS:
                (asked.folder / f"{name}.webp").write_bytes(await _shot(tab, url + path, width, dark=dark))


async def _work(mirror: Mirror, seconds: float) -> None:
    """Let it work, at a rate that changes as that of a real line does."""
    chance = random.Random(6)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while loop.time() < end_s:
        mirror.bandwidth.use_share(chance.uniform(0.5, 1.0))
        await asyncio.sleep(min(15.0, max(0.1, end_s - loop.time())))


async def _shot(tab: Tab, url: str, width: int, *, dark: bool) -> bytes:
    await tab.look_like(width, dark=dark)
    await tab.open(url)
    return await tab.picture()


if __name__ == "__main__":
    asyncio.run(main())
