"""Write docker/requirements.txt: what the image installs, exactly, with the hashes of its wheels.

    python -m tools.lock        # or: make lock

pip resolves what pyproject.toml asks for within constraints.txt. The file names no index: where the
wheels come from is the builder's business, what they are is written here. Run it after every change
of constraints.txt.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "docker" / "requirements.txt"
PYTHON = (3, 11)
"""Of the image: markers of requirements are judged by the Python that runs this."""

EXTRAS = ("parquet", "serve", "tracing")
"""What the image has beside the service's own requirements."""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17)] + [
    "manylinux2014_x86_64"
]
"""Tags of the wheels that run on the image's Debian. x86-64 only: Faust has no wheel for Linux on
ARM64, and what is compiled at a build has no recorded hash."""

HEADER = """\
# Made by `make lock` out of pyproject.toml and constraints.txt; do not edit.
# What the image installs: exact versions, and the hashes of their wheels for Linux on x86-64.
"""


def wanted(project: Mapping[str, Any]) -> list[str]:
    """What is asked for: to build the project, to run it, and the image's extras."""
    found: list[str] = [
        *project["build-system"]["requires"],
        *project["tool"]["clv"]["compile-with"],
        *project["project"]["dependencies"],
        *(need for name in EXTRAS for need in project["project"]["optional-dependencies"][name]),
    ]
    return found


def lock_text(report: Mapping[str, Any]) -> str:
    """The file, out of a report of pip's: a requirement and its hash, one after the other."""
    lines = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{sha256}\n")
    return HEADER + "".join(sorted(lines, key=str.lower))


def _report(requirements: list[str]) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as nowhere:
        command = [
            sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
            "--dry-run", "--ignore-installed", "--report", "-", "--target", nowhere,
            "--only-binary", ":all:", "--implementation", "cp",
            "--python-version", ".".join(map(str, PYTHON)),
            *(word for tag in PLATFORMS for word in ("--platform", tag)),
            "--constraint", str(ROOT / "constraints.txt"), *requirements,
        ]  # fmt: skip
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Write the file."""
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"run this with Python {'.'.join(map(str, PYTHON))}, which is the image's")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    LOCK.write_text(lock_text(_report(wanted(project))))


if __name__ == "__main__":
    main()
