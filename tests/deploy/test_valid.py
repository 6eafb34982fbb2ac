"""The deployment files pass their own world's judges, offline; and the judges see a planted error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import COMPOSE, DOCKERFILE, FLEET, KEDA, KUBERNETES, UNIT, tool

HADOLINT = [tool("hadolint")]
COMPOSE_SCHEMA = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
STRICT = [tool("kubernetes-validate"), "--strict", "--quiet"]
KEDA_SCHEMA = [tool("check-jsonschema"), "--schemafile", str(Path(__file__).with_name("keda.schema.json"))]
OBJECTS = [
    path
    for folder in (KUBERNETES, FLEET)
    for path in sorted(folder.glob("*.yaml"))
    if path.name != "kustomization.yaml"
]


def judged(judge: list[str], *paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*judge, *map(str, paths)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("judge", "paths"),
    [
        (HADOLINT, [DOCKERFILE]),
        (COMPOSE_SCHEMA, [COMPOSE]),
        (STRICT, OBJECTS),
        (KEDA_SCHEMA, sorted(KEDA.glob("*.yaml"))),
    ],
    ids=["Dockerfile", "compose", "kubernetes", "keda"],
)
def test_valid(judge: list[str], paths: list[Path]) -> None:
    verdict = judged(judge, *paths)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    ("judge", "path", "right", "wrong"),
    [
        (HADOLINT, DOCKERFILE, "WORKDIR /src", "WORKDIR src"),
        (COMPOSE_SCHEMA, COMPOSE, "stop_grace_period", "stop_grace_periods"),
        (STRICT, KUBERNETES / "deployment.yaml", "terminationGracePeriodSeconds", "terminationGracePeriod"),
        (STRICT, KUBERNETES / "jobs.yaml", "concurrencyPolicy", "concurrencePolicy"),
        (STRICT, FLEET / "deployment.yaml", "maxSurge", "maxSurges"),
        (STRICT, FLEET / "disruption.yaml", "maxUnavailable", "maxUnavailables"),
        (KEDA_SCHEMA, KEDA / "scaledobject.yaml", "minReplicaCount", "minReplicas"),
    ],
    ids=["Dockerfile", "compose", "deployment", "jobs", "fleet", "disruption", "autoscaler"],
)
def test_a_planted_error_is_found(judge: list[str], path: Path, right: str, wrong: str, tmp_path: Path) -> None:
    text = path.read_text()
    assert right in text
    planted = tmp_path / path.name
    planted.write_text(text.replace(right, wrong, 1))
    assert judged(judge, planted).returncode != 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    """systemd looks for the program as well, which is not installed here: any other takes its place."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/polyb2/bin/polyb2", sys.executable)
    unit.write_text(text)
    judge = ["systemd-analyze", "verify", "--man=no"]
    verdict = judged(judge, unit)
    assert (verdict.returncode, verdict.stderr) == (0, "")
    unit.write_text(text.replace("TimeoutStopSec", "TimeoutStopSecs"))
    assert "Unknown key" in judged(judge, unit).stderr
