"""Apache Kafka for the tests: one node or several, as processes of this machine."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from streams.embedded.process import HOST

from .allowed import require_kafka_allowed
from .certificates import Certificates
from .jars import kafka_jars, kafka_missing_reason
from .node import KafkaFailed, KafkaNode, free_ports

__all__ = ["KafkaCluster", "KafkaFailed", "KafkaNode", "Security", "kafka_missing_reason"]


_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"


class Security:
    """What clients need to be let in: TLS, and a name and password.

    protocol: SSL, SASL_SSL or SASL_PLAINTEXT. mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    client_certificate: whether the broker asks for the client's certificate (with TLS only).
    others: more users, with their passwords.
    """

    def __init__(
        self,
        protocol: str = "SASL_SSL",
        mechanism: str = "SCRAM-SHA-512",
        *,
        username: str = "clv",
        password: str = "a secret",
        client_certificate: bool = False,
        others: Mapping[str, str] | None = None,
    ) -> None:
        self.protocol = protocol
        self.mechanism = mechanism
        self.username = username
        self.password = password
        self.client_certificate = client_certificate
        self.passwords = {username: password, **(others or {})}

    @property
    def is_encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.protocol.endswith("SSL")

    @property
    def asks_password(self) -> bool:
        """Whether clients name themselves by SASL."""
        return self.protocol.startswith("SASL")

    def properties(self, certificates: Certificates) -> dict[str, str]:
        """The broker's side, for its listener CLIENT."""
        result: dict[str, str] = {}
        if self.is_encrypted:
            result |= {
                "listener.name.client.ssl.keystore.type": "PEM",
                "listener.name.client.ssl.keystore.location": str(certificates.server_keystore),
                "listener.name.client.ssl.truststore.type": "PEM",
                "listener.name.client.ssl.truststore.location": str(certificates.ca),
                "listener.name.client.ssl.client.auth": (
                    "required" if self.client_certificate else "none"
                ),
            }
        if self.asks_password:
            prefix = f"listener.name.client.{self.mechanism.lower()}.sasl.jaas.config"
            if self.mechanism == "PLAIN":
                users = " ".join(f'user_{name}="{word}"' for name, word in self.passwords.items())
                module = (
                    f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
                )
            else:
                module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            result |= {
                "listener.name.client.sasl.enabled.mechanisms": self.mechanism,
                prefix: module,
            }
        return result

    def users(self) -> list[str]:
        """What the storage is formatted with: SCRAM's users live in the cluster's own log."""
        if not self.asks_password or self.mechanism == "PLAIN":
            return []
        return [
            word
            for name, password in self.passwords.items()
            for word in ("--add-scram", f"{self.mechanism}=[name={name},password={password}]")
        ]


class KafkaCluster:
    """Nodes that are brokers and controllers; an async context manager.

    directory: where everything is kept. advertised: for each node the port that clients are told,
    where a proxy stands in front of it. properties: more broker properties, which win. security:
    what the clients' listener asks for; the brokers' own is always open. superusers: with them the
    cluster asks ACLs, which these users do not need, nor does who comes by the brokers' listener.
    """

    def __init__(
        self,
        nodes: int = 3,
        directory: Path | None = None,
        *,
        advertised: Sequence[int] | None = None,
        properties: Mapping[str, str] | None = None,
        security: Security | None = None,
        superusers: Sequence[str] = (),
    ) -> None:
        if directory is None:
            raise TypeError("KafkaCluster needs a directory, such as tmp_path")
        self.directory = directory
        self.security = security
        self.certificates = Certificates(directory / "certificates")
        # A first bit of 0 makes the first character a letter: a dash would pass for an option.
        name = uuid.uuid4().bytes
        name = bytes([name[0] & 0x7F]) + name[1:]
        self.cluster_id = base64.urlsafe_b64encode(name).decode().rstrip("=")
        ports = free_ports(3 * nodes)
        listening = [(*ports[3 * n : 3 * n + 2], ports[3 * n + 2]) for n in range(nodes)]
        voters = ",".join(f"{n + 1}@{HOST}:{listening[n][2]}" for n in range(nodes))
        shown = advertised or [client for client, _, _ in listening]
        shared = _shared_properties(nodes) | {"controller.quorum.voters": voters}
        if security is not None:
            shared |= security.properties(self.certificates)
        if superusers:
            # The brokers' and controllers' listeners ask for no login: they are ANONYMOUS.
            names = ";".join(f"User:{name}" for name in (*superusers, "ANONYMOUS"))
            shared |= {"authorizer.class.name": _AUTHORIZER, "super.users": names}
        self.nodes = [
            KafkaNode(
                n + 1,
                directory / f"node-{n + 1}",
                (client, plain, controller),
                shared
                | _own_properties(
                    n + 1, directory / f"node-{n + 1}" / "data", (client, plain, controller),
                    shown[n], security.protocol if security else "PLAINTEXT",
                )
                | dict(properties or {}),
            )
            for n, (client, plain, controller) in enumerate(listening)
        ]  # fmt: skip
        self._shown = list(shown)

    @property
    def address(self) -> str:
        """Bootstrap servers for clients: the advertised ports of all nodes."""
        return ",".join(f"{HOST}:{port}" for port in self._shown)

    @property
    def plain_address(self) -> str:
        """Bootstrap servers of the brokers' own listener, past proxies and passwords."""
        return ",".join(f"{HOST}:{node.plain_port}" for node in self.nodes)

    async def start(self) -> None:
        """Format the storage of all nodes, start them, and wait until each knows the others."""
        require_kafka_allowed()
        # Fetched before the clock runs: the first time it takes half a minute.
        kafka_jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        users: list[str] = []
        if self.security is not None:
            users = self.security.users()
            if self.security.is_encrypted:
                self.certificates.make()
        first, *others = self.nodes
        await first.format(self.cluster_id, *users)
        for node in others:
            node.format_like(first)
        try:
            for node in self.nodes:
                node.launch()
            await asyncio.gather(*(node.ready() for node in self.nodes))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all nodes at once."""
        for node in self.nodes:
            node.kill()

    async def stop(self) -> None:
        """End all nodes; nobody needs their data any more."""
        self.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()


def _shared_properties(nodes: int) -> dict[str, str]:
    replication = str(min(3, nodes))
    in_sync = "2" if nodes >= 3 else "1"
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAIN",
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "controlled.shutdown.enable": "true",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": replication,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        # A dead node is known to be dead after some seconds.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        "replica.lag.time.max.ms": "3000",
        # Small machines: the defaults are for servers of their own.
        "num.network.threads": "2",
        "num.io.threads": "3",
        "background.threads": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "log.cleaner.io.buffer.size": "262144",
        "socket.send.buffer.bytes": "262144",
        "socket.receive.buffer.bytes": "262144",
    }


def _own_properties(
    number: int, data: Path, ports: tuple[int, int, int], shown: int, protocol: str
) -> dict[str, str]:
    client, plain, controller = ports
    return {
        "node.id": str(number),
        "log.dirs": str(data),
        "listeners": (
            f"CLIENT://{HOST}:{client},PLAIN://{HOST}:{plain},CONTROLLER://{HOST}:{controller}"
        ),
        "advertised.listeners": f"CLIENT://{HOST}:{shown},PLAIN://{HOST}:{plain}",
        "listener.security.protocol.map": (
            f"CLIENT:{protocol},PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
    }
