"""Apache Kafka's jars: taken from Maven's repository once, and kept in the user's cache."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
JAVA_NEEDED = 17
FETCH_SECONDS = 600


class KafkaMissing(Exception):
    """Apache Kafka cannot run here; the text says what is missing."""


def kafka_version() -> str:
    """The version that the POM pins."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text())
    if found is None:
        raise KafkaMissing(f"{POM} has no kafka.version")
    return found[1]


def cache_folder() -> Path:
    """Where the jars are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "clv-streams" / f"kafka-{kafka_version()}"


def java() -> str:
    """Path of a `java` that is new enough; raises KafkaMissing."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")
    if program is None:
        raise KafkaMissing(f"java is not installed: Kafka needs {JAVA_NEEDED} or newer")
    version = _java_version(program)
    if version < JAVA_NEEDED:
        raise KafkaMissing(f"{program} is Java {version}: Kafka needs {JAVA_NEEDED} or newer")
    return program


@functools.cache
def _java_version(program: str) -> int:
    said = subprocess.run(
        [program, "-version"], check=False, capture_output=True, text=True, timeout=60
    )
    found = re.search(r'version "(\d+)', said.stderr + said.stdout)
    if found is None:
        raise KafkaMissing(f"{program} -version said {said.stderr.strip() or said.stdout!r}")
    return int(found[1])


def class_archive() -> Path:
    """Where the classes of a started node are kept as the JVM has them: it then starts in half.

    Made by `tests.servers.prepare`; a JVM that finds none, or that of another Java, does without.
    """
    return cache_folder() / f"node-java-{_java_version(java())}.jsa"


def kafka_missing_reason() -> str | None:
    """Why Apache Kafka cannot run here, in words; None if it can."""
    try:
        java()
        if not cache_folder().is_dir() and shutil.which("mvn") is None:
            raise KafkaMissing("mvn (Maven) is not installed, which fetches Kafka's jars")
    except KafkaMissing as missing:
        return f"no Apache Kafka: {missing}"
    return None


def kafka_jars() -> Path:
    """The folder with the broker's jars, fetched first if need be; raises KafkaMissing."""
    folder = cache_folder()
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissing("mvn (Maven) is not installed, which fetches Kafka's jars")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as temporary:
        jars = Path(temporary) / "jars"
        command = [
            maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
            f"-DoutputDirectory={jars}", "-DincludeScope=runtime",
        ]  # fmt: skip
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=FETCH_SECONDS
        )
        if done.returncode or not list(jars.glob("kafka_*.jar")):
            raise KafkaMissing(
                f"Maven could not fetch Kafka {kafka_version()} (status {done.returncode}):\n"
                + (done.stdout + done.stderr)[-3_000:]
            )
        try:
            jars.rename(folder)
        except OSError:
            # Another test run was quicker.
            if not folder.is_dir():
                raise
    return folder
