"""Rules in a configuration file: what is wrong, in which file, line and rule, and what to do."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.segments import (
    BUILT_IN,
    DEFAULT_DIMENSIONS,
    DEFAULT_RULES,
    PRESETS,
    Condition,
    Dimension,
    Rule,
)
from streams.cli.configuration import load_settings, settings_of_file
from streams.cli.console import CommandError
from streams.toml_places import places

from .commands import refused

GOOD = """\
broker = "localhost:9092"

[[dimensions]]
name = "presence"

[[dimensions.rules]]
id = "here"
segment = "here"
stay_days = 7
any = [
  { feature = "p_purchase", is = "at least", bound = 0.5, leave = 0.4 },
  { feature = "days_since_last_order", is = "at most", bound = 30 },
]

[[dimensions.rules]]
id = "away"
segment = "away"
all = [{ feature = "orders", is = "at least", bound = "p20" }]

[[dimensions.rules]]
id = "gone"
segment = "gone"

[[dimensions]]
use = "tier"
"""

BROKEN = {
    "a misspelt setting": ("broker =", "brokr =", 1, ["brokr", "did you mean broker"]),
    "a misspelt table": ("[[dimensions]]\nuse", "[econmics]\nuse", 24, ["econmics", "economics"]),
    "a misspelt key of a dimension": (
        'name = "presence"',
        'nam = "presence"',
        4,
        ["'nam'", "did you mean 'name'"],
    ),
    "a misspelt key of a rule": (
        "any = [",
        "anny = [",
        10,
        ["rule 'here'", "'anny'", "did you mean 'any'"],
    ),
    "a misspelt key of a condition": (
        "leave = 0.4",
        "leaf = 0.4",
        11,
        ["rule 'here'", "'leaf'", "did you mean 'leave'"],
    ),
    "an unknown feature": (
        '"orders"',
        '"order"',
        18,
        ["rule 'away'", "unknown feature 'order'", "did you mean 'orders'"],
    ),
    "an unknown quantile": ('"p20"', '"p21"', 18, ["rule 'away'", "unknown quantile 'p21'", "p20"]),
    "a quantile that is not published": (
        '"orders"',
        '"gross"',
        18,
        ["rule 'away'", "no quantiles of gross", "give a number"],
    ),
    "gold of another feature": ('"p20"', '"gold"', 18, ["rule 'away'", "'gold'", "of clv"]),
    "a rule that can never be reached": (
        'is = "at least", bound = "p20"',
        'is = "below", bound = 0',
        15,
        ["rule 'away'", "can never be reached", "move it up"],
    ),
    "a rule without conditions before the last": (
        'all = [{ feature = "orders", is = "at least", bound = "p20" }]',
        "",
        15,
        ["rule 'away'", "no conditions", "put it last"],
    ),
    "a missing last rule": (
        '[[dimensions.rules]]\nid = "gone"\nsegment = "gone"\n',
        "",
        15,
        ["rule 'away'", "must have no conditions", "add one"],
    ),
    "two rules with one id": (
        'id = "away"',
        'id = "here"',
        15,
        ["rule 'here'", "two rules", "rename one"],
    ),
    "two dimensions with one name": (
        'name = "presence"',
        'name = "tier"',
        24,
        ["dimension 'tier'", "two dimensions", "rename one"],
    ),
    "a bound to leave that is harder than the one to enter": (
        "leave = 0.4",
        "leave = 0.6",
        11,
        ["rule 'here'", "leave is 0.6", "below the bound to enter"],
    ),
    "a number in quotes": (
        "bound = 30",
        'bound = "30"',
        12,
        ["rule 'here'", "unknown quantile '30'", "a bound is a number"],
    ),
    "a bound that is neither number nor text": (
        "bound = 30",
        "bound = true",
        12,
        ["rule 'here'", "a bound is a number"],
    ),
    "a comparison that there is not": (
        'is = "at most"',
        'is = ">="',
        12,
        ["rule 'here'", "'>='", '"at least"'],
    ),
    "a condition without feature": (
        'feature = "orders", ',
        "",
        18,
        ["rule 'away'", "feature is missing", "write {"],
    ),
    "a rule without segment": ('segment = "away"\n', "", 15, ["rule 'away'", "segment is missing"]),
    "a rule without id": ('id = "away"\n', "", 15, ["rule number 2", "id is missing"]),
    "an id with spaces": ('id = "away"', 'id = "far away"', 16, ["rule 'far away'", "hyphens"]),
    "a stay in quotes": (
        "stay_days = 7",
        'stay_days = "7"',
        9,
        ["rule 'here'", "stay_days is '7'", "whole number"],
    ),
    "a stay in the last rule": (
        'id = "gone"',
        'id = "gone"\nstay_days = 3',
        20,
        ["rule 'gone'", "no effect", "leave them out"],
    ),
    "a dimension that is not built in": (
        'use = "tier"',
        'use = "teir"',
        24,
        ["use is 'teir'", "lifecycle, tier"],
    ),
    "a list of dimensions to use": (
        'use = "tier"',
        'use = ["tier"]',
        24,
        ["use is ['tier']", "lifecycle, tier"],
    ),
    "a built-in dimension with rules of its own": (
        'use = "tier"',
        'use = "tier"\nname = "x"',
        24,
        ["beside use"],
    ),
    "conditions that are no list": (
        'all = [{ feature = "orders", is = "at least", bound = "p20" }]',
        "all = 3",
        18,
        ["rule 'away'", "all is 3", "list of conditions"],
    ),
    "a text compared with a number": (
        'is = "at least", bound = "p20"',
        'is = "one of", bound = ["p20"]',
        18,
        ["rule 'away'", "orders is a number", "at least"],
    ),
}


def configured(monkeypatch, tmp_path, text):
    path = tmp_path / "clv.toml"
    path.write_text(text)
    monkeypatch.setenv("CLV_CONFIG", str(path))
    return path


def test_good_rules_are_those_in_force_at_the_start(monkeypatch, tmp_path):
    path = configured(monkeypatch, tmp_path, GOOD)
    rules = load_settings().rules
    assert [each.name for each in rules.dimensions] == ["presence", "tier"]
    assert rules.by_name["tier"] == DEFAULT_RULES.by_name["tier"]
    assert settings_of_file(path).rules == rules
    assert rules.dimensions[0].rules[0].conditions[0].leave == 0.4


def test_without_rules_those_of_the_version_hold(monkeypatch, tmp_path):
    configured(monkeypatch, tmp_path, 'broker = "x:1"\n')
    assert load_settings().rules is DEFAULT_RULES
    assert load_settings().rules.dimensions == DEFAULT_DIMENSIONS


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said_with_file_line_rule_and_what_to_do(monkeypatch, tmp_path, name):
    old, new, line, words = BROKEN[name]
    assert GOOD.count(old) >= 1
    path = configured(monkeypatch, tmp_path, GOOD.replace(old, new, 1))
    for load in (load_settings, lambda: settings_of_file(path)):
        with pytest.raises(CommandError) as raised:
            load()
        first, *problems = str(raised.value).splitlines()
        assert first == "the configuration is not valid:"
        [problem] = [each for each in problems if words[0] in each]
        assert problem.startswith(f"  {path}, line {line}: ")
        for word in words:
            assert word in problem


def test_broken_toml_names_the_line(monkeypatch, tmp_path):
    configured(monkeypatch, tmp_path, GOOD.replace("[[dimensions]]", "[[dimensions]", 1))
    with pytest.raises(CommandError, match=r"not TOML: .*line 3"):
        load_settings()


def test_a_worker_does_not_start_on_broken_rules(tmp_path):
    path = tmp_path / "clv.toml"
    path.write_text(GOOD.replace('"orders"', '"order"'))
    said = refused("worker", CLV_CONFIG=str(path))
    assert f"{path}, line 18: dimension 'presence', rule 'away': unknown feature" in said


def test_rules_can_be_given_in_the_environment(monkeypatch):
    monkeypatch.setenv("CLV_DIMENSIONS", '[{"use": "tier"}]')
    assert [each.name for each in load_settings().rules.dimensions] == ["tier"]


KEYS = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", '"h\\"i"'])
VALUES = st.recursive(
    st.sampled_from(["1", "-2.5", "true", '"x # ["', "'y]'", '"""two\nlines"""', "1979-05-27"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: "[\n " + ",\n ".join(each) + " # c\n]")
        | st.dictionaries(KEYS, inner, max_size=2).map(
            lambda each: "{ " + ", ".join(f"{k} = {v}" for k, v in each.items()) + " }"
        )
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(KEYS, st.dictionaries(KEYS, VALUES, max_size=3)), max_size=4))
def test_places_are_those_of_the_parsed_document(tables):
    """Each key and element that the parser finds has a line, and on it stands the last key."""
    text = "".join(
        f"\n[[{name}]] # a table\n" + "".join(f"{key} = {value}\n" for key, value in pairs.items())
        for name, pairs in tables
    )
    lines, found = text.split("\n"), places(text)

    def walk(value, place):
        if place:
            line = lines[found.pop(place) - 1]
            if isinstance(place[-1], str):
                assert re.sub(r"\W", "", place[-1]) in re.sub(r"\W", "", line)
        inside = enumerate(value) if isinstance(value, list) else ()
        for key, each in value.items() if isinstance(value, dict) else inside:
            walk(each, (*place, key))

    walk(tomllib.loads(text), ())
    assert not found


DOCUMENT = (Path(__file__).parents[2] / "docs/segments.md").read_text()


def test_the_examples_of_the_document_are_good(tmp_path):
    examples = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        path = tmp_path / "clv.toml"
        path.write_text(example)
        assert settings_of_file(path).dimensions


def test_the_documented_error_is_that_of_the_documented_example(tmp_path, monkeypatch):
    [example] = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("clv.toml").write_text(example.replace("orders_90d", "order_90d"))
    with pytest.raises(CommandError) as raised:
        settings_of_file(Path("clv.toml"))
    assert str(raised.value).splitlines()[1].strip() in DOCUMENT


def test_every_preset_can_be_used_by_its_name(tmp_path):
    path = tmp_path / "clv.toml"
    path.write_text("".join(f'[[dimensions]]\nuse = "{name}"\n' for name in BUILT_IN))
    dimensions = settings_of_file(path).dimensions
    assert [each.name for each in dimensions] == list(BUILT_IN)
    assert {each.name for each in DEFAULT_DIMENSIONS} | PRESETS.keys() == BUILT_IN.keys()


def test_the_keys_of_rules_are_documented():
    documented = set(
        re.findall(r"`(\w+)`", DOCUMENT.split("| key | meaning |")[1].split("\n\n")[0])
    )
    keys = {
        field.alias or name
        for kind in (Dimension, Rule, Condition)
        for name, field in kind.model_fields.items()
    }
    assert keys - {"rules"} <= documented
