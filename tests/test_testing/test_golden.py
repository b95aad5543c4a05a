"""Golden files, as a team has them: pytest in a directory of its own, run by run."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest

from streams.outcome.differences import difference
from streams.outcome.facts import from_lines, to_lines
from tests.servers import forks
from tests.test_testing.test_plugin import INI

pytest_plugins = ["pytester"]

TEST = """
async def test_winter(topology, golden):
    await topology.orders.placed("anna", "40.00", at="2026-01-03")
    await topology.orders.placed("bert", "12.50", at="2026-02-03")
    await topology.orders.placed("bert", "1.00 USD", at="2026-02-04")
    await topology.customers.merged("anna", "carl", at="2026-02-05")
    await topology.advance(days=200)
    await golden(topology)
"""

QUICK = """
from streams.testing import Outcome

def outcome(clv):
    outcome = Outcome()
    data = '{"clv": %r, "currency": "EUR", "as_of": "2026-07-01", "segments": {}}' % clv
    outcome.update(b"anna", b'{"data": %s}' % data.encode())
    return outcome
"""

NAME = "golden/test_it/test_winter.jsonl"


class Shop:
    """A directory with tests, and what pytest says there."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path: Path = pytester.path
        (self.path / "pytest.ini").write_text(INI)

    def run(self, test: str, *options: str) -> tuple[int, str]:
        (self.path / "test_it.py").write_text(test)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = forks.run(command, cwd=self.path, timeout=900)
        return done.returncode, done.stdout + done.stderr

    @property
    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.glob("golden/**/*.jsonl"))


@pytest.fixture
def shop(pytester: pytest.Pytester) -> Shop:
    return Shop(pytester)


def test_a_topology_is_held_against_a_file_that_is_written_only_when_asked(shop: Shop) -> None:
    status, said = shop.run(TEST)
    assert status == 1
    assert f"there is no golden file {NAME}" in said
    assert "pytest --update-golden test_it.py::test_winter" in said
    assert shop.files == [], "it was written though nobody asked"

    status, said = shop.run(TEST, "--update-golden")
    assert status == 0, said
    assert shop.files == [NAME]
    told = said[said.index("golden files written") :]
    assert NAME in told
    facts = [json.loads(line) for line in (shop.path / NAME).read_text().splitlines()]
    assert facts[-1] == {"dead_letters": "no-exchange-rate", "count": 1}
    whose = [fact["customer"] for fact in facts[:-1]]
    assert whose == sorted(whose)
    anna = [fact for fact in facts if fact.get("customer") == "anna"]
    assert anna[0]["segments"]["lifecycle"] == "at risk"
    moved = [fact["to"] for fact in anna if fact.get("change") == "lifecycle"]
    assert moved == ["new", "needs attention", "at risk"]

    status, said = shop.run(TEST)
    assert status == 0, said
    assert "golden files" not in said

    status, said = shop.run(TEST.replace('"12.50"', '"12.51"'))
    assert status == 1
    assert f"not what is in the golden file {NAME}" in said
    assert "customers that differ: 1, of 3 in the golden file; 0 of them new, 0 gone" in said
    assert "customer 'bert'" in said
    assert re.search(r"value: [\d.]+ -> [\d.]+ \(\+0\.00\d+\)", said)
    assert "pytest --update-golden test_it.py::test_winter" in said


def test_the_last_digit_of_a_value_counts_and_is_shown(shop: Shop) -> None:
    test = "def test_it(golden):\n    golden.check(outcome(%r))\n"
    value = 0.1 + 0.2
    assert shop.run(QUICK + test % value, "--update-golden")[0] == 0
    assert '"value": 0.30000000000000004,' in (shop.path / shop.files[0]).read_text()
    status, said = shop.run(QUICK + test % 0.3)
    assert status == 1
    assert "value: 0.30000000000000004 -> 0.3 (-5.55112e-17)" in said


def test_two_outcomes_need_two_names(shop: Shop) -> None:
    test = (
        "def test_it(golden):\n    golden.check(outcome(1.0))\n    golden.check(outcome(2.0)%s)\n"
    )
    status, said = shop.run(QUICK + test % "", "--update-golden")
    assert status == 1
    assert "was written in this run already, and not the same" in said
    status, said = shop.run(QUICK + test % ", 'after a year'", "--update-golden")
    assert status == 0, said
    assert shop.files == ["golden/test_it/after-a-year.jsonl", "golden/test_it/test_it.jsonl"]


def test_a_damaged_file_is_refused_with_its_line(shop: Shop) -> None:
    test = QUICK + "def test_it(golden):\n    golden.check(outcome(1.0))\n"
    shop.run(test, "--update-golden")
    file = shop.path / shop.files[0]
    file.write_text(file.read_text() + "<<<<<<< theirs\n")
    status, said = shop.run(test)
    assert status == 1
    assert "golden/test_it/test_it.jsonl: line 2 is '<<<<<<< theirs'" in said


VALUE = '{"customer": "c", "value": 1.0, "segments": {}}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('["c1"]', "and no object"),
        ("5", "and no object"),
        ('{"customer": "c"}', "says not one of value, change, removed, dead_letters"),
        ('{"customer": 5, "value": 1.0}', "its customer is 5"),
        ('{"value": 1.0}', "has no customer"),
        ('{"customer": "c", "value": 1.0, "segments": null}', "its segments are no object"),
        ('{"customer": "c", "change": "tier", "to": "x", "as_of": "t"}', "has no from"),
        ('{"customer": "c", "removed": "erased", "into": 1, "as_of": "t"}', "its into is 1"),
        ('{"dead_letters": "not-json", "count": "1"}', "its count is '1'"),
        ('{"dead_letters": "not-json", "count": 1, "of": 2}', "has the unknown of"),
        (VALUE, "gives 'c' a second value"),
    ],
)
def test_a_line_of_another_shape_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"line 2 .*{said}"):
        from_lines(f"{VALUE}\n{line}\n")


def test_where_the_value_stands_and_the_order_of_fields_is_no_difference() -> None:
    value = {"customer": "c", "value": 1.0, "segments": {"a": "x", "b": "y"}}
    change = {"customer": "c", "change": "a", "from": None, "to": "x", "as_of": "t"}
    turned = {"segments": {"b": "y", "a": "x"}, "value": 1.0, "customer": "c"}
    assert difference({"c": [value, change]}, {"c": [change, turned]}) == ""
    assert "value: 1.0 -> 1" in difference({"c": [value]}, {"c": [value | {"value": 1}]})
    was = difference({"c": [change]}, {"c": [change | {"from": ""}]})
    assert len(set(was.splitlines()[2:])) == 2, "it does not say what differs"


def test_a_comparison_that_is_not_awaited_fails_the_test(shop: Shop) -> None:
    test = TEST.replace("await golden(", "golden(")
    status, said = shop.run(test, "-W", "ignore")
    assert status == 1
    assert "nothing was compared: write `await golden(...)`" in said


TWO = (
    QUICK
    + """
import pytest

def test_one(golden):
    golden.check(outcome(1.0))

@pytest.mark.parametrize("which", ["a", "b"])
def test_two(golden, which):
    golden.check(outcome(1.0))
"""
)


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_files_that_no_test_asks_for_are_told_when_all_tests_ran(
    shop: Shop, more: tuple[str, ...]
) -> None:
    status, said = shop.run(TWO, "--update-golden", *more)
    assert status == 0, said
    assert len(shop.files) == 3
    left = "golden/test_it/test_zero.jsonl"
    gone = "golden/test_gone/test_one.jsonl"
    for name in (left, gone):
        (shop.path / name).parent.mkdir(exist_ok=True)
        (shop.path / name).write_text("")
    status, said = shop.run(TWO, *more)
    assert status == 0, said
    told = said[said.index("golden files that no test asks for") :]
    assert [line for line in told.splitlines() if line.startswith("golden/")] == [gone, left]
    for part in (("-k", "one"), ("test_it.py::test_one",)):
        status, said = shop.run(TWO, *part, *more)
        assert (status, left in said) == (0, False), said
    failing = TWO.replace("def test_one(golden):", "def test_one(golden):\n    assert 0")
    status, said = shop.run(failing, *more)
    assert (status, left in said) == (1, False), said


def facts_of(customers: int, **changed: float):
    """Facts of many customers."""
    return {
        name: [{"customer": name, "value": changed.get(name, float(number)), "segments": {}}]
        for number, name in ((number, f"c{number:05d}") for number in range(customers))
    }


def test_of_many_customers_the_first_are_shown_and_the_others_counted() -> None:
    golden, now = facts_of(10_000), facts_of(20_000, c00003=math.pi)
    lines = difference(golden, now).splitlines()
    assert lines[0] == (
        "customers that differ: 10,001, of 10,000 in the golden file; 10,000 of them new, 0 gone"
    )
    assert lines[1:3] == ["customer 'c00003'", f"    value: 3.0 -> {math.pi} (+0.141593)"]
    assert lines[-1] == "and 9996 customers more"
    assert len(lines) < 40


def test_a_change_that_is_missing_and_one_that_is_out_of_order_are_shown() -> None:
    said = [
        {"customer": "c", "change": "tier", "from": a, "to": b, "as_of": "t"}
        for a, b in ((None, "x"), ("x", "y"), ("y", "z"))
    ]
    assert difference({"c": said}, {"c": said}) == ""
    missing = difference({"c": said}, {"c": said[:1] + said[2:]})
    assert missing.splitlines()[1:] == ["customer 'c'", "    - tier: x -> y, as of t"]
    swapped = difference({"c": said}, {"c": [said[1], said[0], said[2]]})
    moved = swapped.splitlines()[2:]
    assert [line.strip()[0] for line in moved] in (["+", "-"], ["-", "+"])
    assert len({line.strip()[1:] for line in moved}) == 1, "not one change in two places"


def test_lines_are_facts_again_whatever_ids_hold() -> None:
    name = 'a"\u2028\u0085\nz'
    facts = {name: [{"customer": name, "value": 1e300 / 7}]}
    assert from_lines("\n".join(to_lines(facts))) == facts
