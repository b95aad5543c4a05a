"""The compiled core: it comes to the same bytes, and a build does without it where it must."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import backend, compiled

ROOT = Path(__file__).parent.parent
KEPT_BY_ANNOTATIONS = {"BaseModel", "Struct", "EventData", "Contract", "Register"}
"""Bases whose classes live by their annotations, of which mypyc keeps too little."""


def defined(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.ClassDef]


def name_of(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("source", compiled.sources())
def test_no_compiled_module_defines_a_class_that_mypyc_would_break(source: str):
    for node in defined(ROOT / source):
        bases = set(map(name_of, node.bases))
        decorators = {name_of(each) for part in (node, *node.body) for each in
                      getattr(part, "decorator_list", ())}  # fmt: skip
        assert not bases & KEPT_BY_ANNOTATIONS, node.name
        assert not decorators & {"dataclass", "cached_property"}, node.name


def published(path: str, dataset: str, events: int) -> dict:
    """What a process publishes that finds its modules on this path."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.published_bytes", dataset, str(events)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_compiled_and_plain_publish_the_same_bytes():
    if not compiled.is_current(compiled.TARGET):
        compiled.build(compiled.TARGET)
    for dataset in ("cdnow", "online-retail"):
        fast = published(f"{compiled.TARGET}{os.pathsep}{ROOT}", dataset, 5_000)
        plain = published(str(ROOT), dataset, 5_000)
        assert (fast.pop("compiled"), plain.pop("compiled")) == (True, False)
        assert fast == plain
        assert fast["records"]["updates"] > 5_000


class Setuptools:
    """What the backend calls of setuptools, which notes the extension modules that it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.built: list[list] = []
        monkeypatch.setattr(backend.build_meta, "build_wheel", self.build_wheel)
        monkeypatch.setattr(backend.build_meta, "get_requires_for_build_wheel", lambda _: [])

    def build_wheel(self, *_arguments) -> str:
        self.built.append(list(backend.extension_modules))
        return "a.whl"


@pytest.fixture
def setuptools(monkeypatch: pytest.MonkeyPatch) -> Setuptools:
    monkeypatch.delenv(backend.SWITCH, raising=False)
    return Setuptools(monkeypatch)


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.shutil, "which", lambda _: None)


def with_compiler(monkeypatch: pytest.MonkeyPatch, extensions) -> None:
    monkeypatch.setattr(backend, "_why_not", lambda: None)
    monkeypatch.setattr(compiled, "extensions", extensions)


def test_a_wheel_without_a_c_compiler_is_pure_and_says_so(setuptools, monkeypatch, capsys):
    without_compiler(monkeypatch)
    assert backend.get_requires_for_build_wheel() == []
    assert backend.build_wheel("there") == "a.whl"
    assert setuptools.built == [[]]
    assert "The core stays plain Python" in capsys.readouterr().err


def test_a_wheel_has_the_compiled_modules_and_leaves_none_for_the_next(setuptools, monkeypatch):
    with_compiler(monkeypatch, lambda: ["extension"])
    backend.build_wheel("there")
    assert setuptools.built == [["extension"]]
    assert backend.extension_modules == []


def test_a_wheel_whose_core_does_not_compile_is_pure_and_says_why(setuptools, monkeypatch, capsys):
    def broken():
        raise SystemExit("no such type")

    with_compiler(monkeypatch, broken)
    backend.build_wheel("there")
    assert setuptools.built == [[]]
    assert "no such type" in capsys.readouterr().err


def test_who_insists_on_a_compiled_core_gets_no_pure_wheel(setuptools, monkeypatch):
    monkeypatch.setenv(backend.SWITCH, "1")
    without_compiler(monkeypatch)
    with pytest.raises(SystemExit, match="there is no C compiler"):
        backend.build_wheel("there")
    assert setuptools.built == []


def test_who_wants_a_pure_wheel_gets_one(setuptools, monkeypatch):
    monkeypatch.setenv(backend.SWITCH, "0")
    backend.build_wheel("there")
    assert setuptools.built == [[]]


def test_a_build_uses_the_compiler_that_the_tests_use(setuptools, monkeypatch):
    monkeypatch.chdir(ROOT)
    with_compiler(monkeypatch, list)
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    needs = backend.get_requires_for_build_wheel()
    assert set(needs) <= set(pinned)
    assert any(need.startswith("mypy==") for need in needs)


def test_a_copy_of_other_sources_is_not_current(tmp_path):
    assert not compiled.is_current(tmp_path)
