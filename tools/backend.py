"""The build backend: setuptools, with the core compiled by mypyc if that is possible.

If there is a C compiler, a wheel has the compiled core beside its sources; if not, it is pure.
`CLV_COMPILE=0` asks for a pure one, and `CLV_COMPILE=1` for an error instead of a pure one. An
editable installation is never compiled: `make compiled` is for a checkout.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from tools import compiled

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Options = Mapping[str, Any] | None

SWITCH = "CLV_COMPILE"

extension_modules: list[Any] = []
"""What setup.py gives to setuptools."""


def get_requires_for_build_wheel(config_settings: Options = None) -> list[str]:
    """Return what a build needs beside setuptools: if it compiles, mypyc and what it looks into."""
    needs = list(build_meta.get_requires_for_build_wheel(config_settings))
    return needs + compiler_requirements() if _why_not() is None else needs


def build_wheel(
    wheel_directory: str, config_settings: Options = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel, compiled if possible; return its name."""
    why_not = _why_not()
    if why_not is None:
        try:
            extension_modules[:] = compiled.extensions()
            return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
        except (ImportError, SystemExit) as error:
            # mypyc is not installed; or what mypyc and setuptools raise where something is wrong.
            why_not = f"compiling it failed: {error}"
        finally:
            extension_modules.clear()
    if _asked() == "1":
        raise SystemExit(f"{SWITCH}=1 asks for a compiled core, but {why_not}")
    print(f"The core stays plain Python, which is slower: {why_not}.", file=sys.stderr)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def compiler_requirements() -> list[str]:
    """Return mypy, and the typed packages of the core, in the versions that the tests run with."""
    known = dict(
        line.split("==")
        for line in Path("constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    project = tomllib.loads(Path("pyproject.toml").read_text())
    names = project["tool"]["clv"]["compile-with"]
    return [f"{name}=={known[name]}" for name in names]


def _asked() -> str:
    return os.environ.get(SWITCH, "")


def _why_not() -> str | None:
    """Return why nothing is compiled, or None."""
    if _asked() == "0":
        return f"{SWITCH} is 0"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"Python's headers are not installed ({header})"
