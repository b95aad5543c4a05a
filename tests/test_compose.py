"""docker-compose.yml, the Dockerfile and the topics that are created before the workers start."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.cli.configuration import FORMS
from streams.kafka.topics import TopicPlan
from streams.settings import Settings
from streams.topics import plan
from streams.variables import OTHER_VARIABLES

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EACH = pytest.mark.parametrize("name", SERVICES)

INPUTS = {"shop.orders", "shop.support", "shop.customers", "shop.identities", "clv.backfill"}
COMPACTED = {"clv.updates", "clv.models", "clv-customers-changelog"}
KEPT = {"clv.identity", "clv.rerouted", "clv.segment-changes", "clv.dead-letters", "clv.clock"}


def pairs(text: str) -> dict[str, str]:
    """Read Kafka's "NAME:value,NAME:value" lists (and "NAME://host:port")."""
    return dict(item.split(":", 1) for item in text.split(","))


@pytest.fixture
def topics() -> dict[str, TopicPlan]:
    """The topics that the service `topics` creates, by what its environment says."""
    variables = SERVICES["topics"]["environment"]
    settings = Settings(broker=variables["CLV_BROKER"], partitions=variables["CLV_PARTITIONS"])
    return {topic.name: topic for topic in plan(settings)}


def test_docker_compose_itself_accepts_the_file():
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("docker is not installed on this machine")
    version = subprocess.run([docker, "compose", "version"], check=False, capture_output=True)
    if version.returncode != 0:
        pytest.skip("docker has no compose plugin on this machine")
    subprocess.run([docker, "compose", "--profile", "*", "config", "--quiet"], cwd=ROOT, check=True)


def images() -> list[str]:
    """Every image of others, as it is named."""
    ours = SERVICES["worker"]["image"]
    used = [service["image"] for service in SERVICES.values() if service["image"] != ours]
    return used + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)


def test_every_image_of_others_is_pinned_to_a_version_and_a_digest():
    ours = [each for each in SERVICES.values() if "build" in each]
    assert len(images()) == len(SERVICES) - len(ours) + 2
    for image in images():
        assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}$", image), image
    assert re.search(r":\d+\.\d+\.\d+$", SERVICES["worker"]["image"])


def test_an_image_that_is_used_twice_is_the_same_both_times():
    by_name: dict[str, set[str]] = {}
    for image in images():
        by_name.setdefault(image.partition(":")[0], set()).add(image)
    assert [each for each in by_name.values() if len(each) > 1] == []


@EACH
def test_no_service_has_rights_of_roots_or_may_get_them(name: str):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["user"] not in ("root", "0")


@EACH
def test_no_service_writes_to_its_image_and_its_temporary_files_are_bounded(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    mounts = dict(mount.partition(":")[::2] for mount in service["tmpfs"])
    assert all("size=" in options for options in mounts.values())
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        assert source in COMPOSE["volumes"] or mode == ["ro"], volume
        assert target not in mounts


@EACH
def test_no_service_can_take_all_memory_or_all_processes(name: str):
    service = SERVICES[name]
    assert re.search(r"\d+[mg]\}?$", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 512


@EACH
def test_every_service_that_stays_up_has_a_health_check_or_nobody_waits_for_it(name: str):
    awaited = {each for service in SERVICES.values() for each in service.get("depends_on", {})}
    if name in awaited - {"topics"} or name == "worker":
        assert {"test", "interval", "timeout", "retries"} <= SERVICES[name]["healthcheck"].keys()


def megabytes(text: str) -> int:
    """Read an amount of memory, or the default of a variable."""
    [number, unit] = re.findall(r"(\d+)([mg])b?\}?$", text)[0]
    return int(number) * {"m": 1, "g": 1024}[unit]


def test_redis_has_more_memory_than_it_may_keep():
    redis = SERVICES["redis"]
    kept = redis["command"][redis["command"].index("--maxmemory") + 1]
    assert megabytes(redis["mem_limit"]) > megabytes(kept)


def test_every_setting_reaches_the_worker_but_those_that_the_file_sets_itself():
    worker = SERVICES["worker"]
    assert worker["env_file"] == [{"path": ".env", "required": False}]
    fixed = {name for name, value in worker["environment"].items() if "$" not in str(value)}
    assert fixed == {
        "CLV_BROKER", "CLV_REDIS", "CLV_HEALTH_HOST", "CLV_HEALTH_PORT", "CLV_STATE_DIR",
    }  # fmt: skip
    documented = (ROOT / "docs/security.md").read_text()
    assert all(f"`{name}`" in documented for name in fixed)
    # What is taken from `.env` by name has there the name that it has in the worker.
    taken = worker["environment"].items() - {(name, worker["environment"][name]) for name in fixed}
    assert all(value.startswith(f"${{{name}:?") for name, value in taken)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_worker_may_use_what_it_needs_besides_its_customers_and_as_much_again_for_them():
    """docs/security.md: 512 MiB besides its customers' states."""
    assert megabytes(SERVICES["worker"]["mem_limit"]) >= 2 * 512


def test_variables_that_the_file_itself_reads_are_no_unknown_settings_to_a_worker():
    """A worker gets all of `.env`, and refuses what is neither a setting nor listed."""
    read = set(re.findall(r"\$\{(CLV_\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert read
    assert read <= OTHER_VARIABLES.keys() | FORMS.keys()
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in given if name.startswith("CLV_")} <= FORMS.keys()


def test_every_dependency_is_a_service_and_can_meet_its_condition():
    for name, service in SERVICES.items():
        for dependency, wanted in service.get("depends_on", {}).items():
            condition = wanted["condition"]
            if condition == "service_healthy":
                assert "healthcheck" in SERVICES[dependency], (name, dependency)
            else:
                assert condition == "service_completed_successfully", (name, dependency)
                assert SERVICES[dependency]["restart"] == "no", (name, dependency)


def test_a_worker_can_run_any_number_of_times():
    worker = SERVICES["worker"]
    assert not {"container_name", "ports", "hostname", "volumes"} & set(worker)
    assert worker["depends_on"].keys() == {"kafka", "redis", "topics"}
    assert worker["restart"] == "unless-stopped"


def test_listeners_agree_with_each_other_and_with_what_the_clients_use():
    environment = SERVICES["kafka"]["environment"]
    listeners = pairs(environment["KAFKA_LISTENERS"])
    advertised = pairs(environment["KAFKA_ADVERTISED_LISTENERS"])
    protocols = pairs(environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"])
    controller = environment["KAFKA_CONTROLLER_LISTENER_NAMES"]
    assert len(listeners) == 3
    assert protocols.keys() == listeners.keys()
    # A controller listener is not for clients: Kafka refuses to start when it is advertised.
    assert advertised.keys() == listeners.keys() - {controller}
    ports = {name: address.rsplit(":", 1)[1] for name, address in listeners.items()}
    assert len(set(ports.values())) == 3
    for name, address in advertised.items():
        assert address.endswith(f":{ports[name]}")
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@kafka:{ports[controller]}"
    assert f"127.0.0.1:{ports['HOST']}:{ports['HOST']}" in SERVICES["kafka"]["ports"]
    inside = advertised[environment["KAFKA_INTER_BROKER_LISTENER_NAME"]].removeprefix("//")
    assert inside in SERVICES["kafka"]["healthcheck"]["test"]
    assert SERVICES["worker"]["environment"]["CLV_BROKER"] == inside
    assert SERVICES["topics"]["environment"]["CLV_BROKER"] == inside
    assert SERVICES["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"] == inside


def test_a_single_broker_can_hold_every_replica_and_makes_no_topic_by_itself():
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    replication = [k for k in environment if k.endswith(("REPLICATION_FACTOR", "MIN_ISR"))]
    assert len(replication) >= 5
    assert {environment[key] for key in replication} == {1}


def test_ports_are_open_to_this_machine_only():
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_redis_refuses_writes_rather_than_dropping_customers_when_it_is_full():
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert SERVICES["worker"]["environment"]["CLV_ERASURE_KEY"].startswith("${CLV_ERASURE_KEY:?")
    assert SERVICES["worker"]["environment"]["CLV_REDIS"] == "redis://redis:6379/0"


def test_every_topic_is_created_and_those_read_together_have_as_many_partitions(
    topics: dict[str, TopicPlan],
):
    assert topics.keys() == INPUTS | COMPACTED | KEPT
    partitions = {name: topic.partitions for name, topic in topics.items()}
    assert partitions.pop("clv.models") == 1
    assert set(partitions.values()) == {12}
    assert Settings().replication == 1
    service = SERVICES["topics"]
    assert service["command"] == ["clv", "topics", "create"]
    assert service["image"] == SERVICES["worker"]["image"]
    assert service["env_file"] == SERVICES["worker"]["env_file"]


def test_topics_of_latest_values_are_compacted_and_the_others_keep_their_history(
    topics: dict[str, TopicPlan],
):
    for name, topic in topics.items():
        policy = topic.config["cleanup.policy"]
        assert policy == ("compact" if name in COMPACTED else "delete"), name
    for name in INPUTS:
        assert topics[name].config["retention.ms"] == "-1", name


def test_what_the_service_writes_of_a_customer_goes_within_a_bounded_time(
    topics: dict[str, TopicPlan],
):
    for name in COMPACTED:
        assert topics[name].config["max.compaction.lag.ms"] == "86400000", name
    for name in KEPT - {"clv.clock"}:  # Ticks name nobody.
        assert 0 < int(topics[name].config["retention.ms"]) <= 30 * 86_400_000, name


def test_topic_names_use_no_underscore_because_it_collides_with_the_dot_in_metric_names(
    topics: dict[str, TopicPlan],
):
    for name in topics:
        assert re.fullmatch(r"[a-z.-]+", name), name


def test_the_container_runs_without_root():
    final_stage = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER (?!root)\w+", final_stage, re.MULTILINE)
    assert "pip install" not in final_stage


def test_nothing_is_installed_whose_hash_was_not_compared():
    text = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"pip install (.*?)(?=&&|\n)", text)
    locked, ours = (set(each.split()) for each in installs)
    assert {"--require-hashes", "--no-deps", "--only-binary", "docker/requirements.txt"} <= locked
    assert {"--no-deps", "--no-build-isolation", "."} <= ours
    assert not re.search(r"\b(curl|wget|ADD)\b", DOCKERFILE)
    # The compiler is Debian's, whose archive is signed, and stays in the stage that builds.
    assert re.findall(r"apt-get install [-a-z ]*?((?: [a-z][\w-]*)+)\n", text) == [" gcc libc6-dev"]
    assert "apt-get" not in DOCKERFILE.rsplit("FROM ", 1)[1]


def test_the_build_context_holds_what_the_dockerfile_copies():
    allowed = (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE
    )
    for source in " ".join(copied).split():
        assert f"!{source}" in allowed, source
