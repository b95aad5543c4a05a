"""Whether what others could read goes over the network in the clear."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from streams.addresses import shown_url
from streams.cli.checks.check import Check
from streams.settings import Settings

NAME = "encryption"


def security(settings: Settings) -> Iterator[Check]:
    """Warn of connections to other machines that are not encrypted."""
    if settings.broker is not None and not settings.kafka_security.protocol.endswith("SSL"):
        hosts = [server.strip().rpartition(":")[0] for server in settings.broker.split(",")]
        if far := [host for host in hosts if not _is_local(host)]:
            yield Check(
                NAME,
                "warn",
                f"the way to Kafka at {shown_url(', '.join(far))} is not encrypted: everybody on "
                "it can read customers' data",
                "set CLV_KAFKA_SECURITY__PROTOCOL=SSL or SASL_SSL where the network is not yours "
                "alone",
            )
    if settings.redis is not None:
        url = urlsplit(settings.redis)
        if url.scheme == "redis" and not _is_local(url.hostname or "localhost"):
            yield Check(
                NAME,
                "warn",
                f"the way to Redis at {url.hostname} is not encrypted: everybody on it can read "
                "customers' data",
                "write rediss:// in CLV_REDIS where the network is not yours alone",
            )


def _is_local(host: str) -> bool:
    name = host.strip("[]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
