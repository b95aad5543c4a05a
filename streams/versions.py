"""The version of this program, and how its core runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def program_version() -> str:
    """Return the installed version, or "not installed"."""
    try:
        return version("clv-streams")
    except PackageNotFoundError:
        return "not installed"


def core_is_compiled() -> bool:
    """Return whether `models` runs as machine code rather than as Python; both come to the same."""
    found = find_spec("models.engine")
    return found is not None and Path(found.origin or "").suffix != ".py"


def core() -> str:
    """Return how the core runs, in words."""
    return "compiled" if core_is_compiled() else "plain Python"
