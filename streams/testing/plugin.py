"""The pytest plugin: `topology`, `cluster` and `golden`, and histories of failed tests.

It needs pytest-asyncio, and tests that run in its loop: `asyncio_mode = auto`, or a mark. The
service itself is only imported by tests that ask for it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from streams.testing import running_test
from streams.testing.golden import UPDATE, Golden
from streams.testing.golden_report import GoldenFiles

async_fixture: Any
try:
    import pytest_asyncio
except ModuleNotFoundError:
    # Others' tests run without it; pytest tells those that ask for a topology what they lack.
    async_fixture = pytest.fixture
else:
    async_fixture = pytest_asyncio.fixture

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.testing import Cluster, Topology

MEMORY = "memory"
BACKENDS = (MEMORY, "embedded", "kafka")

_GOLDEN_FILES = "clv-golden-files"
_SERVICES = pytest.StashKey[dict[Any, None]]()
SECTION = "what happened to the customers"


class Backend(NamedTuple):
    """Where a topology runs; kafka: bootstrap servers, and the replication of topics there."""

    name: str
    kafka: tuple[str, int] | None = None


def everywhere() -> pytest.MarkDecorator:
    """A mark that runs a test of `topology` in memory, on an embedded broker, and on Kafka."""
    return pytest.mark.parametrize("clv_backend", BACKENDS, indirect=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options: where tests run, and whether golden files are written."""
    group = parser.getgroup("clv")
    group.addoption(
        "--clv-backend",
        choices=BACKENDS,
        default=MEMORY,
        help="where the fixture topology runs: in memory, on an embedded broker, or on the Kafka "
        "that CLV_BROKER names (default: %(default)s)",
    )
    group.addoption(
        UPDATE,
        action="store_true",
        help="write what the tests come to into their golden files, in place of comparing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have the run tell of golden files."""
    config.pluginmanager.register(GoldenFiles(), _GOLDEN_FILES)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """Compares what a topology or a replay came to with a file beside the test."""
    node, config = request.node, request.config
    files: Any = config.pluginmanager.get_plugin(_GOLDEN_FILES)
    golden = Golden(
        node.path,
        node.nodeid,
        update=config.getoption(UPDATE),
        this_run=files.this_run,
    )
    yield golden
    if golden.not_awaited:
        pytest.fail("nothing was compared: write `await golden(...)`", pytrace=False)


@pytest.fixture
def clv_settings() -> Settings:
    """Settings of the topology: defaults and euros; to be overridden in a conftest.py."""
    from streams.testing.settings import shop_settings  # noqa: PLC0415 - only when it is asked for

    return shop_settings()


@pytest.fixture
def clv_kafka() -> tuple[str, int]:
    """Bootstrap servers of an Apache Kafka for tests, and the replication of topics there."""
    servers = os.environ.get("CLV_BROKER")
    if not servers:
        pytest.skip("CLV_BROKER names no Apache Kafka")
    return servers, int(os.environ.get("CLV_REPLICATION", "1"))


@pytest.fixture
def clv_backend(request: pytest.FixtureRequest) -> Backend:
    """Where this test's topology runs: as `everywhere` has it, or as the option says."""
    name = getattr(request, "param", None) or request.config.getoption("--clv-backend")
    return Backend(name, request.getfixturevalue("clv_kafka") if name == "kafka" else None)


@async_fixture  # type: ignore[untyped-decorator]
async def topology(
    clv_settings: Settings, clv_backend: Backend
) -> AsyncIterator[Topology | Cluster]:
    """The service with one worker, on 1 July 2026; in this process unless it is told otherwise."""
    from streams.testing.topology import running_topology  # noqa: PLC0415

    running: AbstractAsyncContextManager[Topology | Cluster]
    if clv_backend.name == MEMORY:
        running = running_topology(clv_settings)
    else:
        running = _running_cluster(clv_settings, clv_backend)
    async with running as topology:
        yield topology


@async_fixture  # type: ignore[untyped-decorator]
async def cluster(clv_settings: Settings, clv_backend: Backend) -> AsyncIterator[Cluster]:
    """The same on a real broker and Redis, the worker a process of its own."""
    async with _running_cluster(clv_settings, clv_backend) as cluster:
        yield cluster


def _running_cluster(settings: Settings, backend: Backend) -> AbstractAsyncContextManager[Cluster]:
    from streams.testing.cluster import running_cluster  # noqa: PLC0415

    servers, replication = backend.kafka or (None, 1)
    return running_cluster(settings, kafka=servers, replication=replication)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note which services a test uses, until its reports are made."""
    with running_test.watched() as services:
        item.stash[_SERVICES] = services
        try:
            return (yield)
        finally:
            del item.stash[_SERVICES]
            for service in services:
                service.forget_customers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that called a topology without `await`, or whose fault never happened."""
    __tracebackhide__ = True
    services = item.stash[_SERVICES]
    try:
        outcome = yield
    except BaseException:
        # They would otherwise fail the next test of a topology that is shared.
        for service in services:
            with suppress(AssertionError):
                service.check_end()
        raise
    for service in services:
        service.check_end()
    return outcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add to the report of a failed test what happened to the customers that it touched."""
    report = yield
    services = item.stash[_SERVICES]
    if report.failed:
        for number, service in enumerate(services, start=1):
            title = SECTION if len(services) == 1 else f"{SECTION}, topology {number}"
            report.sections.append((title, _history(service)))
    return report


def _history(service: Any) -> str:
    try:
        return str(service.history())
    except Exception as error:  # noqa: BLE001 - an error here would end the whole run
        return f"the history cannot be told: {error!r}"
