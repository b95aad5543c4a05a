"""What runs beside the service: alert rules and board, and manifests for Kubernetes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.cli.configuration import FORMS
from streams.metrics.catalogue import CATALOGUE, OUTCOMES, Process
from tests.test_docs import slugs

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy/prometheus"
KUBERNETES = ROOT / "deploy/kubernetes"
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/clv.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PROMTOOL = shutil.which("promtool")
HAS_PROMTOOL = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
OF_PROCESSES = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds",
}  # fmt: skip
"""Of Prometheus' client, as docs/metrics.md lists them."""

NAME = re.compile(r"\b((?:clv|process)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def known(name: str) -> set[str] | None:
    """The labels of a sample's metric, those that Prometheus adds among them; None: no metric."""
    added = {"job", "instance"}
    if name in OF_PROCESSES:
        return added
    if name in CATALOGUE and CATALOGUE[name].kind != "histogram":
        return added | set(CATALOGUE[name].labels)
    base, _, suffix = name.rpartition("_")
    if suffix in ("bucket", "sum", "count") and base in CATALOGUE:
        if CATALOGUE[base].kind != "histogram":
            return None
        return added | set(CATALOGUE[base].labels) | ({"le"} if suffix == "bucket" else set())
    return None


def board_queries() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in BOARD["annotations"]["list"])


QUERIES = [*(rule["expr"] for rule in ALERTS), *board_queries()]


@pytest.mark.parametrize("query", QUERIES)
def test_queries_name_metrics_and_labels_that_exist(query: str):
    named = NAME.findall(query)
    assert named or "up{" in query
    for name, matchers in named:
        labels = known(name)
        assert labels is not None, name
        for label, value in MATCHER.findall(matchers):
            assert label in labels, (name, label)
            if label == "outcome" and name == "clv_records_total":
                assert value in OUTCOMES
    everywhere = {
        label
        for name, _ in named
        for label in known(name) or ()
    }  # fmt: skip
    for listed in re.findall(r"\b(?:by|without) \(([^)]*)\)", query):
        assert {each.strip() for each in listed.split(",")} <= everywhere


def test_every_metric_is_on_the_board_or_in_an_alert_or_tells_a_version():
    named = {name for query in QUERIES for name, _ in NAME.findall(query)}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} | named
    unseen = CATALOGUE.keys() - seen
    assert unseen == {
        "clv_build_info", "clv_ticks_total", "clv_recovered", "clv_customers", "clv_requests_open",
        "clv_refit_seconds", "clv_last_refit_timestamp_seconds",
    }  # fmt: skip


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_where_to_read_what_to_do(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook"}
    name, _, anchor = notes["runbook"].partition("#")
    assert not anchor or anchor in slugs(ROOT / name), notes["runbook"]
    assert (ROOT / name).is_file()


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@HAS_PROMTOOL
def test_promtool_accepts_the_configuration_and_the_rules():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


@HAS_PROMTOOL
def test_alerts_come_when_they_should_and_only_then():
    promtool("test", "rules", PROMETHEUS / "alerts.test.yml")


def test_each_alert_has_a_case_in_which_it_comes():
    text = (PROMETHEUS / "alerts.test.yml").read_text()
    assert {rule["alert"] for rule in ALERTS} == set(re.findall(r'alertname="(\w+)"', text))


@HAS_PROMTOOL
def test_promtool_can_read_the_queries_of_the_board(tmp_path: Path):
    rules = [
        {"record": f"board:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(board_queries())
    ]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", file)


def test_the_panels_of_the_board_do_not_overlap_and_say_what_they_show():
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_prometheus_asks_each_process_of_the_compose_file_at_its_port():
    services = COMPOSE["services"]
    scraped = {}
    for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]:
        [found] = job["dns_sd_configs"]
        [name] = found["names"]
        environment = services[name]["environment"]
        assert environment["CLV_HEALTH_PORT"] == found["port"]
        assert environment["CLV_HEALTH_HOST"] == "0.0.0.0"
        scraped[job["job_name"]] = name
    processes: tuple[Process, ...] = ("worker", "fitter", "serve")
    assert scraped == {f"clv-{process}": process for process in processes}
    jobs = set(re.findall(r'job="([^"]+)"', " ".join(QUERIES)))
    assert jobs <= scraped.keys()


def test_grafana_finds_prometheus_and_the_board():
    services = COMPOSE["services"]
    folder = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "--config.file=/etc/prometheus/clv/prometheus.yml" in services["prometheus"]["command"]
    [provider] = yaml.safe_load((folder / "dashboards/clv.yml").read_text())["providers"]
    mounts = dict(each.split(":")[:2] for each in services["grafana"]["volumes"])
    board = mounts["./deploy/grafana/clv.json"]
    assert Path(board).parent == Path(provider["options"]["path"])
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == board
    for name in ("prometheus", "grafana"):
        for mount in services[name]["volumes"]:
            source_path = mount.split(":")[0]
            assert not source_path.startswith("./") or (ROOT / source_path).exists()


RESOURCES: list[tuple[str, dict[str, Any]]] = [
    (name, document)
    for name in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    for document in yaml.safe_load_all((KUBERNETES / name).read_text())
]
SETTINGS = dict(
    line.split("=", 1) for line in (KUBERNETES / "settings.env").read_text().splitlines()
)
WORKLOADS = {
    document["metadata"]["name"]: document
    for _, document in RESOURCES
    if document["kind"] in ("StatefulSet", "Deployment", "Job")
}
EACH_WORKLOAD = pytest.mark.parametrize("name", WORKLOADS)


def one(kind: str, name: str) -> dict[str, Any]:
    [found] = [
        each for _, each in RESOURCES if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize(
    ("file", "document"), RESOURCES, ids=[f"{name}-{each['kind']}" for name, each in RESOURCES]
)
def test_kubernetes_schemas_accept_the_manifests(file: str, document: dict[str, Any], version: str):
    validator = pytest.importorskip(
        "kubernetes_validate", reason="run `pip install -e '.[deploy]'` to install the schemas"
    )
    try:
        used = validator.validate(document, version, strict=True)
    except validator.ValidationError as error:
        pytest.fail(f"{file}: {error.message}")
    assert used == version


def test_every_manifest_is_applied():
    named = {name for name, _ in RESOURCES}
    there = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert there - named == {"kustomization.yaml", "adapter.yaml"}


@EACH_WORKLOAD
def test_a_pod_has_no_rights_of_roots_and_bounded_memory(name: str):
    pod = WORKLOADS[name]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    # Of a service `clv-serve` Kubernetes would make CLV_SERVE_PORT, which is no setting.
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    uid = re.search(r"--uid (\d+)", (ROOT / "docker/Dockerfile").read_text())
    assert uid is not None
    assert pod["securityContext"]["runAsUser"] == int(uid[1])
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    mounted = {each["name"] for each in container["volumeMounts"]}
    templates = WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
    volumes = {each["name"] for each in pod["volumes"]} | {
        each["metadata"]["name"] for each in templates
    }
    assert mounted == volumes


@EACH_WORKLOAD
def test_what_a_pod_is_told_are_settings_and_commands(name: str):
    [container] = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    given = {each["name"] for each in container.get("env", ())} | SETTINGS.keys()
    assert given <= FORMS.keys()
    program, *words = container["command"]
    commands = {
        tuple(service["command"])
        for service in COMPOSE["services"].values()
        if service["image"].startswith("clv-streams")
    }
    assert (program, *words) in commands
    for each in container.get("env", ()):
        secret = each["name"] in ("CLV_ERASURE_KEY", "CLV_SERVE__READ_TOKENS")
        assert ("valueFrom" in each) is secret


@pytest.mark.parametrize("name", sorted(WORKLOADS.keys() - {"clv-topics"}))
def test_probes_ask_for_what_there_is_and_readiness_restarts_nobody(name: str):
    [container] = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports["metrics"] == int(SETTINGS["CLV_HEALTH_PORT"])
    assert SETTINGS["CLV_HEALTH_HOST"] == "0.0.0.0"
    for probe in ("livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"] == {"path": "/live", "port": "metrics"}
    ready = container["readinessProbe"]["httpGet"]
    assert ready["port"] in ports
    assert ready["path"] == ("/ready" if ready["port"] == "metrics" else "/health")


def test_workers_have_a_volume_each_and_time_to_stop_and_go_one_at_a_time():
    worker = one("StatefulSet", "clv-worker")["spec"]
    [container] = worker["template"]["spec"]["containers"]
    [state] = worker["volumeClaimTemplates"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    [told] = [each["value"] for each in container["env"] if each["name"] == "CLV_STATE_DIR"]
    assert mounts[state["metadata"]["name"]] == told
    assert worker["template"]["spec"]["terminationGracePeriodSeconds"] == 75
    budget = one("PodDisruptionBudget", "clv-worker")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == worker["selector"]
    assert one("Service", "clv-worker")["spec"]["clusterIP"] == "None"
    assert worker["serviceName"] == "clv-worker"


def test_workers_scale_by_lag_within_the_partitions_and_never_to_none():
    scaler = one("HorizontalPodAutoscaler", "clv-worker")["spec"]
    # Applying the manifests again must not undo it.
    assert "replicas" not in one("StatefulSet", "clv-worker")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == "StatefulSet"
    assert scaler["minReplicas"] >= 1
    assert scaler["maxReplicas"] <= int(SETTINGS["CLV_PARTITIONS"])
    [metric] = scaler["metrics"]
    name = metric["external"]["metric"]["name"]
    [rule] = yaml.safe_load((KUBERNETES / "adapter.yaml").read_text())["rules"]["external"]
    assert rule["name"]["as"] == name == "clv_lag_records"
    assert {each for each, _ in NAME.findall(rule["metricsQuery"])} == {name}


def test_a_service_selects_the_pods_that_it_names():
    for _, service in RESOURCES:
        if service["kind"] == "Service":
            pods = WORKLOADS[service["metadata"]["name"]]["spec"]["template"]
            assert service["spec"]["selector"].items() <= pods["metadata"]["labels"].items()
            [container] = pods["spec"]["containers"]
            ports = {each["name"] for each in container["ports"]}
            assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports


def test_no_secret_is_in_the_manifests():
    assert "Secret" not in {document["kind"] for _, document in RESOURCES}
    assert not {"CLV_ERASURE_KEY", "CLV_SERVE__READ_TOKENS"} & SETTINGS.keys()
