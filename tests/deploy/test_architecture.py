"""ARCHITECTURE.md names places that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (ROOT / "src/polyb2", ROOT)


def test_every_path_leads_somewhere() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|sql|toml))`", text))
    assert len(named) > 50
    assert [path for path in sorted(named) if not any((room / path).exists() for room in ROOMS)] == []
