"""The deployment files say the same as the program, and as each other."""

from __future__ import annotations

from typing import Any

import pytest

from polyb2.config.settings import Settings, entries
from polyb2.core.units import parse_duration
from polyb2.engine import STOPPING_LEDGER_S
from tests.conftest import Bench
from tests.deploy.files import (
    KUBERNETES,
    compose,
    image_environment,
    instruction,
    kustomization,
    manifest,
    manifests,
    pod_templates,
    unit_setting,
    without_variables,
    words,
)

NAMES = {name for entry in entries() for name in (entry.variable.name, entry.variable.alias) if name}
DEFAULT = Settings()
PORT = DEFAULT.page.address.rpartition(":")[2]
LEDGER = "sqlite:////data/polyb2.db"
OURS = ("POLYB2_", "POLYGON_", "MASSIVE_", "B2_", "DATABASE_", "WORKER_", "LOG_")
MIRROR = compose()["services"]["polyb2"]
SERVICES = {name: service for name, service in compose()["services"].items() if "build" in service}
"""Those of the image of polyb2."""
ONCE = {name: service for name, service in SERVICES.items() if service.get("profiles") == ["once"]}
DEPLOYMENT = manifest("Deployment")
PODS = pod_templates()
CONFIG: dict[str, str] = manifest("ConfigMap")["data"]


def settings_of(given: dict[str, str]) -> Settings:
    return Settings(**{name.lower(): value for name, value in given.items()})  # type: ignore[arg-type]


def test_every_setting_named_exists_and_its_value_is_one() -> None:
    image = {name: value for name, value in image_environment().items() if name.startswith(OURS)}
    services = {name: defaults_of(service) for name, service in SERVICES.items()}
    for given in (image, CONFIG, manifest("Secret")["stringData"], *services.values()):
        assert given
        assert set(given) <= NAMES
    urls = {name: settings_of(given).ledger.url for name, given in services.items()}
    assert urls.pop("worker") == "postgresql://polyb2@postgres/polyb2"
    assert {settings_of(image).ledger.url, settings_of(CONFIG).ledger.url, *urls.values()} == {LEDGER}


def defaults_of(service: dict[str, Any]) -> dict[str, str]:
    return {name: without_variables(value) for name, value in service["environment"].items()}


def test_the_example_of_the_secret_has_all_that_is_required() -> None:
    given = dict.fromkeys(manifest("Secret")["stringData"], "key")
    settings_of(given | {"B2_ENDPOINT_URL": "s3.us-west-004.backblazeb2.com"}).require_remote()


def test_the_wait_for_the_end_is_longer_than_a_drain() -> None:
    needed_s = DEFAULT.run.drain_s + STOPPING_LEDGER_S
    assert parse_duration(MIRROR["stop_grace_period"]) > needed_s
    assert SERVICES["worker"]["stop_grace_period"] == MIRROR["stop_grace_period"]
    assert parse_duration(unit_setting("TimeoutStopSec")) > needed_s
    drain_s = settings_of(CONFIG).run.drain_s
    assert PODS["polyb2"]["spec"]["terminationGracePeriodSeconds"] > drain_s + STOPPING_LEDGER_S


def test_health_is_asked_where_it_is_served_and_published_on_loopback_only() -> None:
    assert MIRROR["environment"]["POLYB2_HTTP_ADDR"] == CONFIG["POLYB2_HTTP_ADDR"] == f"0.0.0.0:{PORT}"
    assert MIRROR["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert [name for name, service in compose()["services"].items() if "ports" in service] == ["polyb2"]
    (container,) = PODS["polyb2"]["spec"]["containers"]
    assert container["ports"] == [{"name": "health", "containerPort": int(PORT)}]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    assert "Service" not in {item["kind"] for item in manifests()}
    policy = manifest("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy
    for template in PODS.values():
        assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_the_ledger_lies_on_the_volume() -> None:
    assert instruction("VOLUME") == "/data"
    volumes = {name: service["volumes"] for name, service in SERVICES.items()}
    assert volumes.pop("worker") == []
    assert set(map(tuple, volumes.values())) == {("ledger:/data",)}
    claim = manifest("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    for template in PODS.values():
        (volume,) = template["spec"]["volumes"]
        assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        (container,) = template["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/data"}]


def test_one_mirror_and_jobs_on_its_node() -> None:
    assert (DEPLOYMENT["spec"]["replicas"], DEPLOYMENT["spec"]["strategy"]) == (1, {"type": "Recreate"})
    mirror = PODS["polyb2"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == mirror
    jobs = [template for name, template in PODS.items() if name != "polyb2"]
    assert len(jobs) == 2
    for job in jobs:
        assert job["metadata"]["labels"] != mirror, "a job would count as the mirror"
        terms = job["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert terms == [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": mirror}}]


def test_nobody_is_root_and_nothing_is_written_outside_the_volume() -> None:
    user, group = (int(number) for number in instruction("USER").split(":"))
    assert instruction("RUN").startswith(f"install -d -o {user} -g {group} ")
    for service in SERVICES.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    for template in PODS.values():
        pod = template["spec"]["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (True, user, group, group)
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = template["spec"]["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_kustomization_names_every_file_but_the_example() -> None:
    listed = set(kustomization()["resources"])
    there = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert listed == there - {"kustomization.yaml", "secret.example.yaml"}


def command_lines() -> dict[str, list[Any]]:
    """The arguments of polyb2, by where they stand."""
    lines = {"image": words("CMD"), "unit": unit_setting("ExecStart").split()[1:]}
    lines |= {f"kubernetes {name}": template["spec"]["containers"][0]["args"] for name, template in PODS.items()}
    for name, service in ONCE.items():
        assert service["entrypoint"] == ["polyb2", name]
        lines[f"compose {name}"] = [name, *service["command"]]
    return lines


@pytest.mark.parametrize(("where", "line"), command_lines().items())
async def test_every_command_line_is_one_of_the_program(bench: Bench, where: str, line: list[str]) -> None:
    """--help is answered only where the words before it are known."""
    ended = await bench.cli(*line, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert (await bench.cli(*line, "--no-such-option", "--help")).code == 2


def test_the_long_running_ones_watch() -> None:
    lines = command_lines()
    assert words("ENTRYPOINT") == ["polyb2"]
    assert "command" not in MIRROR, "the image's own"
    assert lines["image"] == lines["unit"] == lines["kubernetes polyb2"] == ["run", "--watch"]
