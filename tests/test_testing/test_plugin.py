"""The plugin, as somebody has it who installed the package: in a directory of their own."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

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
) -> str:
    """Run pytest in a directory with these files, and return what it says."""
    assert any(each.name == "clv" for each in entry_points(group="pytest11")), (
        "the installed package has no pytest plugin; install it anew: touch pyproject.toml && make"
    )
    for name, text in files:
        (directory / name).write_text(dedent(text))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | (environment or {}),
    )
    return done.stdout + done.stderr


def test_the_example_passes_in_a_fresh_directory(tmp_path: Path) -> None:
    said = run(tmp_path, ("pytest.ini", INI), ("test_it.py", EXAMPLE), options=("-W", "error"))
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
        "lifecycle new -> at risk",
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
    assert "1 passed" in run(tmp_path, ("test_it.py", test))


def test_tests_of_others_run_without_pytest_asyncio(tmp_path: Path) -> None:
    missing = 'raise ModuleNotFoundError("it is not installed", name=__name__)'
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said = run(
        tmp_path,
        ("pytest_asyncio.py", missing),
        ("test_it.py", "def test_it():\n    assert True\n"),
        options=("-p", "no:asyncio"),
        environment={"PYTHONPATH": path},
    )
    assert "1 passed" in said, said
