"""A Kafka Streams app in Java: built with the Eclipse compiler from Maven, run by any Java 17.

    python -m benchmarks.contenders.kafka_streams rocksdb at_least_once

It replaces its process by the JVM, so that the runner measures the JVM alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.jars import KafkaMissing, java

HERE = Path(__file__).parent
SOURCE = HERE / "CustomerValue.java"
POM = HERE / "pom.xml"
SECONDS = 600


def classes() -> Path:
    """Return the folder with the program and its jars; fetch and compile what is not there yet.

    Raises:
        KafkaMissing: Java or Maven is not installed, or Maven could not fetch the jars.

    """
    digest = hashlib.sha256(SOURCE.read_bytes() + POM.read_bytes()).hexdigest()[:12]
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "clv-streams" / f"kafka-streams-{digest}"
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise KafkaMissing("mvn (Maven) is not installed, which fetches Kafka Streams")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as temporary:
        built = Path(temporary) / "built"
        _run(
            "mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
            f"-DoutputDirectory={built}", "-DincludeScope=runtime",
        )  # fmt: skip
        [compiler] = built.glob("ecj-*.jar")
        _run(
            java(), "-jar", str(compiler), "--release", "17", "-nowarn", "-proc:none",
            "-cp", ":".join(map(str, built.glob("*.jar"))), "-d", str(built), str(SOURCE),
        )  # fmt: skip
        compiler.unlink()
        try:
            built.rename(folder)
        except OSError:
            # Another run was quicker.
            if not folder.is_dir():
                raise
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise KafkaMissing(
            f"{command[0]} ended with status {done.returncode}:\n"
            + (done.stdout + done.stderr)[-3_000:]
        )


def missing_reason() -> str | None:
    """Return why Kafka Streams cannot run here, in words; None if it can."""
    try:
        java()
        classes()
    except KafkaMissing as missing:
        return f"no Kafka Streams: {missing}"
    return None


def main() -> None:
    """Become the JVM."""
    store, guarantee = sys.argv[1:]
    folder = classes()
    program = java()
    os.execv(
        program,
        [
            program, "-Xms128m", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", f"{folder}:{folder}/*", "CustomerValue",
            store, guarantee, str(Path.cwd() / "state"),
        ],
    )  # fmt: skip
