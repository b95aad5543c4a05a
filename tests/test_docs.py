"""What the documents name is there: links, commands, settings, targets, files, reasons."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from pydantic import BaseModel
from typer.core import TyperGroup

from models.contracts import Reason
from models.contracts.outputs import OUTPUTS, output_schemas
from streams.cli import app
from streams.cli.listed import COMMANDS, Commands
from streams.cli.record_options import ROLES
from streams.settings import Settings
from streams.variables import OTHER_VARIABLES
from tests.faults.breaks import BREAKS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "tests/**/*.md",
        "benchmarks/**/*.md",
        "examples/**/*.md",
    )
    for path in ROOT.glob(pattern)
)
FOLDERS = (ROOT, ROOT / "models", ROOT / "streams", ROOT / "tests")
"""What paths in the documents begin at, beside the document's own folder."""

FORMER_REASONS = {"not-supported", "unknown"}
"""Reasons of letters that an earlier version wrote, or no worker."""

FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|[ \t]*\n)+", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INVOKED = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(clv|make|python -m|pytest)(?: (.*))?$")
VARIABLE = re.compile(r"\bCLV_[A-Z0-9_]*[A-Z0-9](__…)?")
FILE = re.compile(r"^[\w.-]+(?:/[\w.-]+)*/(?:[\w-]+\.(?:py|md|toml|yml|sh|lua))?$")
FIRST_CELL = re.compile(r"^\|([^|]*`[^|]*)\|", re.MULTILINE)


class Invocation(NamedTuple):
    """A command as a document shows it."""

    program: str
    arguments: list[str]


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return INDENTED.sub("\n", FENCED.sub("", path.read_text()))


def spans(path: Path) -> Iterator[str]:
    """What stands between backticks in the text."""
    for paragraph in prose(path).split("\n\n"):
        for found in SPAN.findall(paragraph):
            yield " ".join(found.split())


def invocations(path: Path) -> Iterator[Invocation]:
    """Commands in blocks of code, line by line, and between backticks."""
    text = path.read_text()
    blocks = [*FENCED.findall(text), *INDENTED.findall(FENCED.sub("", text))]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    for line in [*lines, *spans(path)]:
        if found := INVOKED.match(re.split(r" [|#] |  +#| && ", line)[0]):
            yield Invocation(found[1], (found[2] or "").split())


def slugs(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\s-]", "", title.lower()) for title in HEADING.findall(prose(path)))
    return {title.strip().replace(" ", "-") for title in plain}


@cache
def commands() -> TyperGroup:
    """The command line."""
    found = typer.main.get_command(app)
    assert isinstance(found, Commands)
    for name in COMMANDS:
        found.load(name)
    return found


def all_commands(group: TyperGroup, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    for each, command in group.commands.items():
        yield f"{name}{each}", command
        if isinstance(command, TyperGroup):
            yield from all_commands(command, f"{name}{each} ")


def options(command: Any) -> set[str]:
    """The options of a command, and those of all."""
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {
        "--help"
    }


def variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The environment variables of a model's fields, nested ones included."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from variables(kind, f"{variable}__")
        elif not field.exclude:
            yield variable


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_links_lead_somewhere(document: Path):
    broken = []
    for target in LINK.findall(SPAN.sub("", prose(document))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in slugs(path)):
            broken.append(target)
    assert not broken


def test_commands_and_their_options_exist(document: Path):
    wrong = []
    for program, arguments in invocations(document):
        if program != "clv":
            continue
        command: Any = commands()
        words = list(arguments)
        while isinstance(command, TyperGroup) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
            name = words.pop(0)
            if name not in command.commands:
                wrong.append(f"clv {' '.join(arguments)}: no command {name!r}")
                break
            command = command.commands[name]
        else:
            named = {re.split(r"[=,:;]", word)[0] for word in words if word.startswith("--")}
            if missing := named - options(command):
                wrong.append(f"clv {' '.join(arguments)}: no {sorted(missing)}")
    assert not wrong


def test_make_targets_exist(document: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for program, arguments in invocations(document)
        if program == "make"
        for word in arguments[:1]
        if "=" not in word
    }
    assert named <= targets


def test_modules_that_are_run_exist(document: Path):
    named = [args[0] for program, args in invocations(document) if program == "python -m"]
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


def test_files_exist(document: Path):
    missing = [
        span
        for span in spans(document)
        if FILE.match(span)
        and not any((folder / span).exists() for folder in (document.parent, *FOLDERS))
    ]
    assert not missing


def test_the_site_has_every_document():
    listed = set(re.findall(r"^[a-z-]+$", (ROOT / "docs/index.md").read_text(), re.MULTILINE))
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} == listed


def test_the_tests_behind_the_table_of_threats_exist():
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+\.py", (ROOT / "docs/security.md").read_text()))
    assert named
    assert named <= there


def test_variables_are_settings(document: Path):
    known = {*variables(Settings, "CLV_"), *OTHER_VARIABLES}
    groups = {name.rpartition("__")[0] + "__…" for name in known if "__" in name}
    named = {found[0] for found in VARIABLE.finditer(document.read_text())}
    assert named <= known | groups


def test_variables_that_are_no_settings_are_read_where_it_is_said():
    for variable, path in OTHER_VARIABLES.items():
        assert variable in (ROOT / path).read_text(), path


def test_the_command_line_is_documented_whole():
    text = (ROOT / "docs/cli.md").read_text()
    assert [name for name, _ in all_commands(commands()) if f"clv {name}" not in text] == []
    known = {name for _, command in all_commands(commands()) for name in options(command)}
    named = {
        word for span in spans(ROOT / "docs/cli.md") for word in re.findall(r"--[a-z-]+", span)
    }
    assert named <= known


def test_every_setting_is_documented():
    text = "".join((ROOT / name).read_text() for name in ("docs/cli.md", "docs/security.md"))
    nested = re.sub(r"`(CLV_\w+?__)\w+`(?:, `__\w+`)+", _spelt_out, text)
    assert [name for name in variables(Settings, "CLV_") if name not in nested] == []


def _spelt_out(found: re.Match[str]) -> str:
    """ "`CLV_A__B`, `__C`" as "CLV_A__B CLV_A__C"."""
    return " ".join(found[1] + rest for rest in re.findall(r"__(\w+?)`", found[0]))


def test_the_topics_that_can_be_recorded_and_replayed_are_listed():
    listed = ", ".join(f"`{role}`" for role in ROLES)
    assert f"or some of {listed}, joined" in " ".join((ROOT / "docs/replay.md").read_text().split())


HEADING_OF_TYPE = {
    "clv.updated": "Value update",
    "clv.segment-changed": "Segment change",
    "clv.customer-removed": "Removal",
}


def fields_of(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of an object in a JSON Schema, nested ones dotted, and the JSON type of each."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        required = schema["required"]
        for name, each in schema["properties"].items():
            for inner, kind in fields_of(each, root):
                yield (
                    f"{name}.{inner}".rstrip(".").replace(".[", "["),
                    kind + ", optional" * (name not in required),
                )
    elif schema.get("type") == "array":
        yield "", "array"
        for inner, kind in fields_of(schema["items"], root):
            yield f"[].{inner}", kind
    elif schema.get("type") == "object":
        for inner, kind in fields_of(schema["additionalProperties"], root):
            yield f"{{}}.{inner}".rstrip("."), kind
    elif "anyOf" in schema:
        yield "", " or ".join(each.get("type", "object") for each in schema["anyOf"])
        for each in schema["anyOf"]:
            if "$ref" in each:
                yield from fields_of(each, root)
    else:
        yield "", "time" if schema.get("format") == "date-time" else schema["type"]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_fields_of_an_output_are_listed_with_their_types(kind: str):
    sections = {
        found[1]: re.findall(r"^\| `(\S+)` \| ([^|]+) \|", found[2], re.MULTILINE)
        for found in re.finditer(
            r"^## (.+)$((?:\n(?!## ).*)*)", (ROOT / "docs/outputs.md").read_text(), re.MULTILINE
        )
    }
    listed = sections[HEADING_OF_TYPE[kind]]
    names = [(re.sub(r"\{\w+\}", "{}", name), json_type) for name, json_type in listed]
    schema = output_schemas()[kind]
    assert names == list(fields_of(schema["properties"]["data"], schema))
    envelope = {**schema, "properties": {**schema["properties"], "data": {"type": "string"}}}
    assert dict(sections["Envelope"]) == {**dict(fields_of(envelope, schema)), "data": "object"}


@pytest.mark.parametrize("name", ["contracts.md", "dead-letters.md"])
def test_every_reason_of_a_refusal_is_documented(name: str):
    rows = FIRST_CELL.findall((ROOT / "docs" / name).read_text())
    named = {span for row in rows for span in SPAN.findall(row)}
    assert {reason.value for reason in Reason} <= named


def test_every_way_of_breaking_the_service_is_documented():
    rows = FIRST_CELL.findall((ROOT / "docs/reliability.md").read_text())
    named = {span for row in rows for span in SPAN.findall(row)}
    assert named == set(BREAKS)
