"""The files of a fleet, on Compose and on Kubernetes: no volume, any number of workers, and each drains when it is ended."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import psycopg
import pytest

from polyb2.config.settings import Settings, entries
from polyb2.engine import STOPPING_LEDGER_S
from polyb2.ledger.open import open_ledger
from tests.conftest import Bench, key
from tests.deploy.files import (
    FLEET,
    KEDA,
    compose,
    instruction,
    kustomization,
    manifest,
    manifests,
    pod_templates,
    without_variables,
)
from tests.postgres import PostgresServer, postgres_missing

NAMES = {entry.variable.name for entry in entries()}
DEPLOYMENT = manifest("Deployment", FLEET)
PODS = pod_templates(FLEET)
CONFIG: dict[str, str] = manifest("ConfigMap", FLEET)["data"]
SECRET: dict[str, str] = manifest("Secret", FLEET)["stringData"]
SERVER = compose()["services"]["postgres"]
WORKER = compose()["services"]["worker"]


def test_every_setting_named_exists_and_all_that_are_required_are_there() -> None:
    given = dict.fromkeys(SECRET, "key") | {"B2_ENDPOINT_URL": "s3.us-west-004.backblazeb2.com"} | CONFIG
    given["DATABASE_URL"] = SECRET["DATABASE_URL"]
    assert set(given) <= NAMES
    settings = Settings(**{name.lower(): value for name, value in given.items()})  # type: ignore[arg-type]
    settings.require_remote()
    assert settings.ledger.url.endswith("?sslmode=verify-full&sslrootcert=system")
    grace_s = PODS["polyb2"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > settings.run.drain_s + STOPPING_LEDGER_S, "an autoscaler would cut off what it ends"


def test_the_pods_watch_without_a_volume_and_as_nobody() -> None:
    user, group = (int(number) for number in instruction("USER").split(":"))
    assert {name: template["spec"]["containers"][0]["args"] for name, template in PODS.items()} == {
        "polyb2": ["run", "--watch"],
        "polyb2-verify": ["verify"],
    }
    for template in PODS.values():
        (container,) = template["spec"]["containers"]
        assert "volumes" not in template["spec"]
        assert "volumeMounts" not in container
        pod = template["spec"]["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"]) == (True, user, group)
        assert container["securityContext"]["readOnlyRootFilesystem"]


def test_what_selects_the_workers_selects_no_job() -> None:
    workers = PODS["polyb2"]["metadata"]["labels"]
    assert workers != PODS["polyb2-verify"]["metadata"]["labels"]
    (spread,) = PODS["polyb2"]["spec"]["topologySpreadConstraints"]
    for selector in (
        DEPLOYMENT["spec"]["selector"],
        manifest("PodDisruptionBudget", FLEET)["spec"]["selector"],
        spread["labelSelector"],
    ):
        assert selector["matchLabels"] == workers
    assert DEPLOYMENT["spec"]["replicas"] > 1
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_kustomization_names_every_file_but_the_example() -> None:
    there = {path.name for path in FLEET.glob("*.yaml")}
    assert set(kustomization(FLEET)["resources"]) == there - {"kustomization.yaml", "secret.example.yaml"}


def test_the_autoscaler_keeps_one_worker_and_is_of_this_deployment() -> None:
    found: dict[str, Any] = manifest("ScaledObject", KEDA)
    assert found["spec"]["scaleTargetRef"] == {"name": DEPLOYMENT["metadata"]["name"]}
    assert 1 <= found["spec"]["minReplicaCount"] < found["spec"]["maxReplicaCount"]
    assert (
        found["spec"]["triggers"][0]["authenticationRef"]["name"]
        == manifest("TriggerAuthentication", KEDA)["metadata"]["name"]
    )
    assert {item["metadata"]["namespace"] for item in manifests(KEDA)} == {kustomization(FLEET)["namespace"]}


async def test_the_query_of_the_autoscaler_counts_the_queue_by_its_own_user(bench: Bench) -> None:
    """On a real ledger, and with the rights that the file grants."""
    if reason := postgres_missing():
        pytest.skip(reason)
    bench.box.source.put(key("2024-01-02"), b"x")
    bench.box.source.put(key("2024-01-03"), b"x")
    (trigger,) = manifest("ScaledObject", KEDA)["spec"]["triggers"]
    grants = re.findall(r"^#   ((?:CREATE USER|GRANT).*;)$", (KEDA / "authentication.yaml").read_text(), re.MULTILINE)
    assert len(grants) == 3
    with PostgresServer() as server:
        await (await open_ledger(server.url())).close()
        with closing(server.connect()) as connection:
            for grant in grants:
                connection.execute(grant.encode())
        scaler = server.url().replace("//polyb2@", "//polyb2_scaler@")
        with closing(psycopg.connect(scaler, autocommit=True)) as connection:
            assert connection.execute(trigger["metadata"]["query"].encode()).fetchone() == (0,)
            await bench.discover(database_url=server.url())
            assert connection.execute(trigger["metadata"]["query"].encode()).fetchone() == (2,)
            await bench.run(database_url=server.url())
            assert connection.execute(trigger["metadata"]["query"].encode()).fetchone() == (0,)


def test_the_server_of_compose_is_pinned_kept_checked_and_not_published() -> None:
    assert re.fullmatch(r"postgres:\d+", SERVER["image"])
    assert SERVER["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "ports" not in SERVER
    assert "--host=127.0.0.1" in SERVER["healthcheck"]["test"]
    assert without_variables(SERVER["environment"]["POSTGRES_PASSWORD"]) == "", "a password that everybody knows"
    assert WORKER["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVER["profiles"] == WORKER["profiles"] == ["fleet"]
