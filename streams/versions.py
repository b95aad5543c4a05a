"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Return the installed version, or "not installed"."""
    try:
        return version("clv-streams")
    except PackageNotFoundError:
        return "not installed"
