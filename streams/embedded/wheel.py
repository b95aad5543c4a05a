"""A server's program is run only as its wheel recorded it."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from streams.embedded.process import ProgramAlteredError, ServerNotInstalledError


def recorded_program(package: str, folder: str, name: str) -> PackagePath | None:
    """What the installed wheel of a package recorded of `folder/…/name`; None if nothing.

    Raises ServerNotInstalledError when the package is not installed as a wheel.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise ServerNotInstalledError(
            f"{package} is there, but not as an installed wheel, so that its program cannot be "
            f"compared with a record: run `pip install --force-reinstall {package}`"
        ) from error
    return next(
        (
            file
            for file in files
            if file.stem == name and file.as_posix().startswith(f"{folder}/") and file.hash
        ),
        None,
    )


def checked_program(path: Path, package: str, recorded: PackagePath, instead: str) -> str:
    """The path of a program whose content is what the wheel recorded.

    recorded: of `recorded_program`. instead: for the error, what to set to do without this program.
    Raises ProgramAlteredError for another program, which must not be run; ServerNotInstalledError
    when it cannot be read, or the record is of an unknown kind.
    """
    expected = recorded.hash
    if expected is None or expected.mode != "sha256":
        raise ServerNotInstalledError(
            f"{package} recorded no sha256 of {recorded}: install a wheel that does, or {instead}"
        )
    try:
        status = path.stat()
        found = _sha256(path, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    except OSError as error:
        raise ServerNotInstalledError(f"cannot read {path}: {error.strerror}; {instead}") from error
    if found != expected.value:
        raise ProgramAlteredError(
            f"{path} was not run: it is not the program that {package} "
            f"{distribution(package).version} brought. Its sha256 is {found}, and the wheel "
            f"recorded {expected.value} (as base64). Find out who changed it, then remove it and "
            f"run `pip install --force-reinstall {package}`; or {instead}"
        )
    return str(path)


@lru_cache(maxsize=8)
def _sha256(path: Path, *_state: int) -> str:
    """As RECORD writes it; `_state`: what changes when the file does."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
