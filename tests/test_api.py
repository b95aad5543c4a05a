"""What users may rely on: the public names, the root of the exceptions, types and dependencies."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from models.errors import ClvError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = [path for package in ("models", "streams") for path in (ROOT / package).rglob("*.py")]
SECTION = re.compile(r"^## (\S+)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LISTED = {
    module: set(re.findall(r"`(\w+)`", text))
    for module, text in SECTION.findall((ROOT / "docs/api.md").read_text())
}


def defined(path: Path) -> set[str]:
    """The public names that a file binds itself, or those of its `__all__`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound = {target.id for target in targets if isinstance(target, ast.Name)}
            if bound == {"__all__"} and node.value is not None:
                return set(ast.literal_eval(node.value))
            names |= bound
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", LISTED)
def test_the_public_names_of_a_module_are_those_that_are_listed(module: str):
    imported = importlib.import_module(module)
    assert LISTED[module] == defined(Path(inspect.getfile(imported)))
    for name in LISTED[module]:
        getattr(imported, name)


def module_of(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exceptions() -> Iterator[type[BaseException]]:
    """Every exception that the packages define."""
    for path in SOURCES:
        text = path.read_text()
        if path.name == "__main__.py" or "class " not in text:
            continue
        module = importlib.import_module(module_of(path))
        for value in vars(module).values():
            is_ours = isinstance(value, type) and value.__module__ == module.__name__
            if is_ours and issubclass(value, BaseException):
                yield value


def test_every_exception_of_ours_derives_from_one():
    found = list(exceptions())
    assert len(found) > 40
    assert [each for each in found if not issubclass(each, ClvError)] == []


@pytest.mark.parametrize("package", ["models", "streams"])
def test_both_packages_say_that_they_are_typed_and_ship_it(package: str):
    assert files(package).joinpath("py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


def imported() -> set[str]:
    """The top-level packages of others that ours import, wherever they do."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"models", "streams"}


def test_every_distribution_that_is_imported_is_declared():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + extras["embedded"] + extras["parquet"]
    texts += extras["serve"] + extras["testing"] + extras["tracing"]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    owners = packages_distributions()
    missing = {
        name
        for name in imported()
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, [name])}
    }
    assert missing == set()
