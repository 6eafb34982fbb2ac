"""The alert rules: they fire when they should, on metrics that exist, and are told in the operator's manual."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from polyb2.sandbox import GeneratedGzip
from tests.conftest import MIB, Bench, key
from tests.web.conftest import Serving

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = (FOLDER / "polyb2-alerts.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", [("check", "rules", "polyb2-alerts.yml"), ("test", "rules", "polyb2-alerts-test.yml")]
)
async def test_promtool_agrees(words: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: tools/install-page-tools.sh does it")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("promtool", *words, cwd=FOLDER, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()


async def test_every_metric_that_a_rule_names_is_exposed(bench: Bench, serving: Serving) -> None:
    bench.box.source.put(key("2024-01-02"), GeneratedGzip(6 * MIB))
    await bench.discover()
    async with serving() as site:
        text = (await site.get("/metrics")).text
        while "polyb2_first_byte_seconds_bucket" not in text or "polyb2_queue_files{" not in text:
            await asyncio.sleep(0.1)
            text = (await site.get("/metrics")).text
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    named = set(re.findall(r"\bpolyb2_\w+", RULES))
    assert len(named) > 8
    assert named <= exposed


def test_every_alert_is_tried_and_told() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES)
    tried = (FOLDER / "polyb2-alerts-test.yml").read_text(encoding="utf-8")
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert len(alerts) > 5
    assert [name for name in alerts if f"alertname: {name}" not in tried] == []
    assert [name for name in alerts if f"`{name}`" not in told] == []
