"""The deployment files, parsed: what the tests of this folder compare with the program and with each other."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
FLEET = KUBERNETES / "fleet"
KEDA = FLEET / "keda"
UNIT = ROOT / "deploy" / "systemd" / "polyb2.service"
HEALTHCHECK = ROOT / "deploy" / "image" / "healthcheck.py"


def tool(name: str) -> str:
    """A program of the development dependencies."""
    return str(Path(sys.executable).with_name(name))


def instruction(name: str) -> str:
    """What the last instruction of that name in the Dockerfile says, its continuation lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    found: list[str] = re.findall(rf"^{name}\s+(.*)$", text, re.MULTILINE)
    return found[-1].strip()


def words(name: str) -> list[str]:
    """An instruction in its JSON form, such as CMD."""
    parsed: list[str] = json.loads(instruction(name))
    return parsed


def image_environment() -> dict[str, str]:
    """ENV of the final stage."""
    return dict(item.split("=", 1) for item in instruction("ENV").split())


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def without_variables(value: str) -> str:
    """A value of Compose with the default of each variable in its place."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def kustomization(folder: Path = KUBERNETES) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return loaded


def manifests(folder: Path = KUBERNETES) -> Iterator[dict[str, Any]]:
    """Every Kubernetes object, the Secret's example included."""
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


def manifest(kind: str, folder: Path = KUBERNETES) -> dict[str, Any]:
    (found,) = (item for item in manifests(folder) if item["kind"] == kind)
    return found


def pod_templates(folder: Path = KUBERNETES) -> dict[str, dict[str, Any]]:
    """The pod template of the Deployment and of each CronJob, by name."""
    found = {}
    for item in manifests(folder):
        if item["kind"] == "Deployment":
            found[item["metadata"]["name"]] = item["spec"]["template"]
        if item["kind"] == "CronJob":
            found[item["metadata"]["name"]] = item["spec"]["jobTemplate"]["spec"]["template"]
    return found


def unit_setting(name: str) -> str:
    found: list[str] = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    (value,) = found
    return value
