"""The plugin, as somebody has it who installed the package: in a directory of their own."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

from tests.servers import forks
from tests.test_streams.recording.support import PARAMETERS, TICK, some_events, write_events

REPLAY = Path(__file__).parents[2] / "docs/replay.md"

INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"

EXAMPLE = """
async def test_silence_makes_at_risk(topology):
    await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03")
    await topology.advance(days=200)
    change = await topology.segment_changes.last("c1", "lifecycle")
    assert change.current == "at risk"
"""


def run(
    directory: Path,
    *files: tuple[str, str],
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    fresh: bool = False,
) -> str:
    """Run pytest in a directory with these files, and return what it says.

    fresh: in an interpreter that has imported nothing; else it has, which takes less time.
    """
    assert any(each.name == "clv" for each in entry_points(group="pytest11")), (
        "the installed package has no pytest plugin; install it anew: touch pyproject.toml && make"
    )
    for name, text in files:
        (directory / name).write_text(dedent(text))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    env = os.environ | (environment or {})
    if not fresh:
        done = forks.run(command, cwd=directory, timeout=900, env=env)
        return done.stdout + done.stderr
    done = subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=env,
    )
    return done.stdout + done.stderr


def test_the_example_passes_in_a_fresh_directory(tmp_path: Path) -> None:
    files = (("pytest.ini", INI), ("test_it.py", EXAMPLE))
    said = run(tmp_path, *files, options=("-W", "error"), fresh=True)
    assert "1 passed" in said, said


def test_a_mark_does_without_a_setting(tmp_path: Path) -> None:
    marked = "import pytest\n\n@pytest.mark.asyncio" + EXAMPLE
    assert "1 passed" in run(tmp_path, ("test_it.py", marked))


def test_settings_are_the_users(tmp_path: Path) -> None:
    conftest = """
        import pytest
        from models.economics import Economics
        from streams.testing import shop_settings

        @pytest.fixture
        def clv_settings():
            return shop_settings(partitions=1, economics=Economics(currency="USD", margin=0.5))
        """
    test = """
        async def test_it(topology):
            await topology.orders.placed("c1", "40.00 USD")
            update = await topology.updates.last("c1")
            assert (update.currency, update.realised.margin) == ("USD", 20.0)
            assert topology.partitions == 1
        """
    said = run(tmp_path, ("pytest.ini", INI), ("conftest.py", conftest), ("test_it.py", test))
    assert "1 passed" in said, said


def test_a_failed_test_tells_what_happened_to_the_customers(tmp_path: Path) -> None:
    test = """
        async def test_it(topology):
            await topology.orders.placed("anna", total="40.00", at="2026-01-03", order="A-1")
            await topology.orders.placed("anna", total="41.00 USD", at="2026-01-04", order="A-2")
            await topology.orders.placed("bert", total="5.00", at="2026-01-03")
            await topology.customers.merged("anna", "bert", at="2026-01-05")
            await topology.advance(days=200)
            change = await topology.segment_changes.last("anna", "lifecycle")
            assert change.current == "lost"
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test))
    assert "1 failed" in said
    told = said[said.index("what happened to the customers") :]
    for words in (
        "customer 'anna'",
        "2026-01-03T12:00:00Z  order.placed",
        "order_id=A-1",
        "total=40.00",
        "shop.orders[",
        "refused, no-exchange-rate: data.currency is 'USD'",
        "the clock",
        "lifecycle new -> needs attention",
        "lifecycle needs attention -> at risk",
        "customer 'bert'",
        "merged into 'anna'",
    ):
        assert words in told, f"{words!r} is not told:\n{told}"
    assert "Crashed reason" not in said


def test_a_passed_test_tells_nothing(tmp_path: Path) -> None:
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", EXAMPLE), options=("-rA",))
    assert "what happened to the customers" not in said


def test_a_crash_is_told_with_its_error(tmp_path: Path) -> None:
    test = """
        async def test_it(topology):
            topology.fail_next_send("clv.updates")
            await topology.orders.placed("c1", 40)
            await topology.updates.last("c1")
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test))
    assert "WorkerCrashed: worker-1" in said
    assert "the test made a delivery to" in said


def test_a_test_that_tests_nothing_fails_and_says_what_to_write(tmp_path: Path) -> None:
    test = """
        import asyncio
        import pytest
        from streams.testing import running_topology

        def test_sync(topology):
            topology.orders.placed("c1", "40.00")
            topology.advance(days=200)

        async def test_forgotten(topology):
            await topology.orders.placed("c1", "40.00")
            topology.updates.last("c1")

        async def test_forgotten_by_hand():
            async with running_topology() as shop:
                shop.cache.size()

        async def test_fault(topology):
            topology.fail_next_send("clv.updates", times=2)

        async def test_fault_by_hand():
            async with running_topology() as shop:
                shop.fail_next_send("clv.updates")
                await shop.orders.placed("c1", "40.00")

        @pytest.mark.asyncio(loop_scope="module")
        async def test_other_loop(topology):
            await topology.orders.placed("c1", "40.00")

        async def test_all_awaited_in_some_way(topology):
            await asyncio.gather(*(topology.orders.placed(f"c{n}", 40) for n in range(5)))
            assert len(await asyncio.create_task(topology.updates.current())) == 5
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(topology.settled(), 0)
            topology.fail_next_send("clv.updates")
            await topology.orders.placed("c1", 40)
            await topology.crash()
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test), options=("-rA", "--tb=short"))
    errors = {
        name: said[said.index(f"_ {name} _") :].partition("\nE   ")[2].partition("\n")[0]
        for name in re.findall("FAILED test_it.py::(\\w+)", said)
    }
    start = "streams.testing.usage."
    forgotten = f"{start}NotAwaited: called without `await`, so that nothing happened: "
    fault = f"{start}FaultUnused: fail_next_send asked for failures that never happened: "
    for name, words in {
        "test_sync": f"{forgotten}placed() in test_it.py:7; advance() in test_it.py:8. Write",
        "test_forgotten": f"{forgotten}last() in test_it.py:12. Write",
        "test_forgotten_by_hand": f"{forgotten}size() in test_it.py:16. Write",
        "test_fault": f"{fault}clv.updates (2 left). ",
        "test_fault_by_hand": f"{fault}clv.updates (1 left). ",
        "test_other_loop": f"{start}OtherEventLoop: this topology was started in another",
    }.items():
        assert errors.pop(name).startswith(words), said
    assert errors == {}
    assert "6 failed, 1 passed" in said, said


def test_a_failed_test_tells_of_topologies_that_it_made_itself(tmp_path: Path) -> None:
    test = """
        import pytest_asyncio
        from streams.testing import running_topology

        async def test_within():
            async with running_topology() as topology:
                await topology.orders.placed("anna", "40.00")
                assert (await topology.updates.last("anna")).clv == 0

        async def test_afterwards():
            async with running_topology() as topology:
                await topology.orders.placed("bert", "40.00")
                update = await topology.updates.last("bert")
            assert update.clv == 0

        @pytest_asyncio.fixture
        async def shop():
            async with running_topology() as topology:
                await topology.orders.placed("carla", "40.00")
                await topology.customer("nobody")
                yield topology

        def test_fixture(shop):
            pass
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test))
    assert "2 failed" in said, said
    assert "1 error" in said, said
    for part, customer in zip(said.split("what happened to the customers")[1:], NAMES, strict=True):
        assert f"customer {customer!r}" in part
        assert "order.placed" in part


NAMES = ("carla", "anna", "bert")  # pytest shows errors first


def test_the_examples_of_the_documents_run_as_they_stand(tmp_path: Path) -> None:
    first, conftest, shared, golden = re.findall("```python\n(.*?)```", REPLAY.read_text(), re.S)
    assert first == EXAMPLE.lstrip()
    dollars = tmp_path / "dollars"
    dollars.mkdir()
    for path, text in {
        "winter.csv": "order_id,customer_id,placed_at,total,currency\no1,c1,2026-01-03,40.00,EUR\n",
        "dollars/conftest.py": conftest,
        "dollars/test_settings.py": SETTINGS,
    }.items():
        (tmp_path / path).write_text(text)
    write_events(tmp_path / "sale.clvrec", some_events(4), TICK, PARAMETERS)
    files = (("test_first.py", first), ("test_shared.py", shared), ("test_shop.py", golden))
    for options in (("--update-golden",), ()):
        said = run(tmp_path, ("pytest.ini", INI), *files, options=options)
        assert "6 passed" in said, said


SETTINGS = """
async def test_it(topology):
    await topology.orders.placed("c1", "40.00 USD")
    assert (await topology.updates.last("c1")).currency == "USD"
    assert topology.partitions == 2
"""


def test_topologies_are_shared_as_the_documents_say(tmp_path: Path) -> None:
    blocks = re.findall("```python\n(.*?)```", REPLAY.read_text(), re.DOTALL)
    (module,) = (block for block in blocks if "loop_scope" in block)
    session = module.replace('"module"', '"session"')
    by_setting = re.sub(r'pytestmark = .*|, loop_scope="session"', "", session)
    assert "loop_scope" not in by_setting
    both = INI.replace("function", "session") + "asyncio_default_test_loop_scope = session\n"
    for ini, text in ((INI, module), (INI, session), (both, by_setting)):
        files = (("pytest.ini", ini), ("test_it.py", text + SHARED))
        said = run(tmp_path, *files)
        assert "1 failed, 3 passed" in said, said
        told = said[said.index("what happened to the customers") :]
        assert "customer 'c7'" in told
        assert "customer 'another'" not in told


SHARED = """

async def test_that_fails(shop):
    await shop.updates.last("c7")
    shop.updates.last("c8")
    assert False


async def test_the_next(shop):
    assert "another" in await shop.updates.current()
"""


def test_fixtures_of_others_with_our_names_are_left_alone(tmp_path: Path) -> None:
    test = """
        import pytest

        @pytest.fixture
        def cluster():
            return {"nodes": 3}

        @pytest.fixture
        def topology():
            return "a ring"

        def test_it(cluster, topology):
            assert cluster["nodes"] == 4

        def test_later():
            assert True
        """
    said = run(tmp_path, ("test_it.py", test))
    assert "1 failed, 1 passed" in said, said
    assert "what happened to the customers" not in said


def test_a_history_with_documents_of_the_tests_own_is_told(tmp_path: Path) -> None:
    test = """
        import json

        async def test_it(topology):
            await topology.orders.placed("c1", "40.00")
            for data in ({"clv": 12.5}, {"version": "one"}, None, 7):
                own = json.dumps({"type": "clv.updated", "data": data}).encode()
                await topology.publish("clv.updates", "c1", own)
            await topology.publish("clv.segment-changes", "c1", b"[]")
            why = ("__streams.errors.exception", b"clv.none")
            await topology.publish("clv.dead-letters", "c1", b"a letter", [why])
            assert False, "the assertion of the test"

        async def test_later(topology):
            assert True
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test))
    assert "1 failed, 1 passed" in said, said
    told = said[said.index("what happened to the customers") :]
    assert "version 1, as of" in told
    assert '"data": {"clv": 12.5}' in told


def test_a_history_that_cannot_be_told_fails_nothing_but_the_test(tmp_path: Path) -> None:
    test = """
        async def test_it(topology):
            topology.history = lambda: 1 / 0
            assert False, "the assertion of the test"

        def test_later():
            assert True
        """
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", test))
    assert "1 failed, 1 passed" in said, said
    assert "the history cannot be told: ZeroDivisionError" in said


def test_who_does_not_ask_for_a_topology_does_not_import_the_service(tmp_path: Path) -> None:
    test = """
        import sys

        def test_it():
            assert "faust" not in sys.modules
        """
    assert "1 passed" in run(tmp_path, ("test_it.py", test), fresh=True)


def test_tests_of_others_run_without_pytest_asyncio(tmp_path: Path) -> None:
    missing = 'raise ModuleNotFoundError("it is not installed", name=__name__)'
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said = run(
        tmp_path,
        ("pytest_asyncio.py", missing),
        ("test_it.py", "def test_it():\n    assert True\n"),
        options=("-p", "no:asyncio"),
        environment={"PYTHONPATH": path},
        fresh=True,
    )
    assert "1 passed" in said, said
