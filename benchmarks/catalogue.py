"""All scenarios, in the order of the report."""

from __future__ import annotations

from benchmarks.scenarios import Scenario, copying_scenarios, line_scenarios


def all_scenarios() -> list[Scenario]:
    return [*copying_scenarios(), *line_scenarios()]
