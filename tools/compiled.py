"""The core compiled by mypyc: which modules, and a compiled copy of a checkout's `models`.

    python -m tools.compiled [DIRECTORY]        # or: make compiled, in build/compiled

Compiled or not, the core comes to the same bytes. Whoever has the copy first on the path uses it:
`PYTHONPATH=build/compiled clv worker`. It is made anew if a source has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "compiled"
GROUP = "clv_core"
"""Name of the shared library, beside which each module has a small one of its own."""

MODULES = (
    "acceptance",
    "aggregate/absorb",
    "aggregate/cancellations",
    "aggregate/daily",
    "aggregate/fold",
    "aggregate/summary",
    "aggregate/versions",
    "aggregate/windows",
    "calendar",
    "catching_up",
    "customers",
    "engine",
    "features/registry",
    "features/seasons",
    "fingerprints",
    "identities",
    "notices",
    "outbox",
    "placeholders",
    "publishing",
    "recent",
    "scores",
    "segments/deciding",
    "segments/reasons",
    "silence",
    "sizes",
)  # fmt: skip
"""What an event passes through. A module that defines a pydantic model, a msgspec struct or a
dataclass cannot be among them: mypyc would drop what their annotations say."""


def sources() -> list[str]:
    """The files to compile, relative to the folder that has `models`."""
    return [f"models/{name}.py" for name in MODULES]


def extensions() -> list[Any]:
    """The extension modules, of the sources in the current directory; for setuptools."""
    from mypyc.build import mypycify  # noqa: PLC0415 - only whoever compiles needs it

    options = ["--config-file", str(ROOT / "pyproject.toml"), *sources()]
    return list(mypycify(options, group_name=GROUP))


def is_current(target: Path) -> bool:
    """Return whether a directory has a compiled copy of the sources as they are now."""
    if not all(list(target.glob(f"models/{name}.*.so")) for name in MODULES):
        return False
    now, then = (
        {path.relative_to(root): path.read_bytes() for path in root.glob("models/**/*.py")}
        for root in (ROOT, target)
    )
    return now == then


def build(target: Path) -> None:
    """Copy `models` to a directory, and compile it there."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    shutil.copytree(
        ROOT / "models", target / "models", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    # A process of its own: mypyc takes modules' names from the current directory.
    subprocess.run(
        [sys.executable, "-c", _SETUP, "build_ext", "--inplace"],
        cwd=target,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
        check=True,
    )
    shutil.rmtree(target / "build")


_SETUP = """
from setuptools import setup
from tools.compiled import extensions
setup(name="core", packages=[], py_modules=[], ext_modules=extensions())
"""

if __name__ == "__main__":
    chosen = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET
    if not is_current(chosen):
        build(chosen)
