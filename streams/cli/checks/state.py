"""The directory in which a worker keeps a copy of its tables."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from streams.cli.checks.check import Check
from streams.settings import Settings

NAME = "state directory"

LEAST_FREE = 1024**3
"""Bytes: a million customers are about as much."""


def state_directory(settings: Settings) -> Iterator[Check]:
    """Check that the directory can be written, and has room; nothing when none is configured."""
    if settings.state_dir is not None:
        yield _directory(settings.state_dir)


def _directory(path: Path) -> Check:
    if path.exists() and not path.is_dir():
        return Check(NAME, "fail", f"{path} is no directory", "correct CLV_STATE_DIR")
    # A worker makes what is missing.
    existing = next(each for each in (path, *path.absolute().parents) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        advice = "let the worker's user write there, or correct CLV_STATE_DIR"
        return Check(NAME, "fail", f"{path} cannot be written: {error.strerror}", advice)
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE:
        advice = "make room: a full disk makes the next restart read the whole changelog"
        return Check(NAME, "warn", f"{path} has {free / 1024**2:,.0f} MiB left", advice)
    return Check(NAME, "ok", f"{path} can be written, {free / 1024**3:,.0f} GiB are free")
