"""How clients reach Kafka: addresses, TLS, a login."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from models.errors import ClvError
from streams.addresses import shown_url
from streams.settings import KafkaSecurity, RedisSecurity, Settings

OPEN = KafkaSecurity()
"""No TLS, no login."""


class SecurityUnusable(ClvError):
    """Certificates that are configured cannot be used; the text says which, and what to do."""


class BrokerUnusable(ClvError):
    """No bootstrap server lets us in; the text says why, in one line."""


@dataclass(frozen=True)
class Broker:
    """The Kafka to talk to: bootstrap servers "host:port,host:port", and how to log in."""

    servers: str
    security: KafkaSecurity = OPEN

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured broker; ValueError when there is none."""
        if settings.broker is None:
            raise ValueError("no broker is configured: set CLV_BROKER=host:port")
        return cls(settings.broker, settings.kafka_security)

    def __str__(self) -> str:
        return shown_url(self.servers)

    def __repr__(self) -> str:
        return f"Broker({str(self)!r}, {self.security.protocol})"

    def client_options(self) -> dict[str, Any]:
        """What every aiokafka client is given; SecurityUnusable for certificates that are not."""
        security = self.security
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": security.protocol,
            "ssl_context": self.tls(),
        }
        if security.protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": security.mechanism,
                "sasl_plain_username": security.username,
                "sasl_plain_password": self.password(),
            }
        return options

    async def check(self, seconds: float = 10.0) -> None:
        """Connect to one of the servers, log in and ask something; raises BrokerUnusable.

        aiokafka's clients only say that they could not bootstrap, and log the reason.
        """
        options = self.client_options()
        reasons = []
        for host, port, _family in collect_hosts(options.pop("bootstrap_servers")):
            try:
                async with asyncio.timeout(seconds):
                    connection = await create_conn(host, port, **options)
                    try:
                        # Without a login this is where a listener that wants one hangs up.
                        await connection.send(MetadataRequest([]))
                    finally:
                        connection.close()
            except (OSError, KafkaError) as error:
                reason = _reason(error, self.security, seconds)
                reasons.append(f"{shown_url(f'{host}:{port}')} {reason}")
            else:
                return
        raise BrokerUnusable("no broker can be used: " + "; ".join(reasons))

    def password(self) -> str | None:
        """The password of the login, or none; SecurityUnusable for a file that is not."""
        return login_password("kafka_security", self.security)

    def tls(self) -> ssl.SSLContext | None:
        """TLS as it is configured, or none; SecurityUnusable for certificates that are not."""
        security = self.security
        if not security.protocol.endswith("SSL"):
            return None
        return tls_context(
            "kafka_security", security.ca_file, security.certificate_file, security.key_file
        )


def _reason(error: OSError | KafkaError, security: KafkaSecurity, seconds: float) -> str:
    """What to say of a server that could not be used."""
    protocol, mechanism = security.protocol, security.mechanism
    if isinstance(error, ssl.SSLCertVerificationError):
        text = (
            f"has a certificate that is not trusted ({error.verify_message}): see "
            "kafka_security.ca_file, and whether CLV_BROKER is the name in the certificate"
        )
    elif isinstance(error, ssl.SSLError):
        text = f"does not do TLS with us ({error.reason or error}): see kafka_security ({protocol})"
    elif isinstance(error, SaslAuthenticationFailed | AuthenticationFailedError):
        text = (
            f"refuses the login of {security.username!r} by {mechanism}: see "
            "kafka_security.username, password and mechanism"
        )
    elif isinstance(error, UnsupportedSaslMechanismError | IllegalSaslStateError):
        text = f"takes no login by {mechanism}: see kafka_security.mechanism and protocol"
    elif isinstance(error, TimeoutError | RequestTimedOutError):
        text = f"does not answer within {seconds:g} s"
    elif isinstance(error, KafkaConnectionError | ConnectionResetError):
        text = f"hangs up: see whether kafka_security.protocol, {protocol}, is that port's"
    else:
        text = f"cannot be reached: {error}"
    return text


def login_password(section: str, security: KafkaSecurity | RedisSecurity) -> str | None:
    """The password that is configured, or that the configured file holds, or none.

    section: of the configuration, for errors. Raises SecurityUnusable.
    """
    if security.password is not None:
        return security.password.get_secret_value()
    path = security.password_file
    if path is None:
        return None
    try:
        password = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        # What cannot be decoded is part of the password.
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise SecurityUnusable(
            f"{section}.password_file {path}: {why}; name a file that this user may read"
        ) from None
    if not password or "\n" in password:
        raise SecurityUnusable(
            f"{section}.password_file {path}: it must hold the password on one line, and nothing "
            "else"
        )
    return password


def tls_context(
    section: str, ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> ssl.SSLContext:
    """A client's TLS, which checks the server's certificate and name; at least TLS 1.2.

    section: of the configuration, for errors. Raises SecurityUnusable.
    """
    context = ssl.create_default_context(
        cafile=None if ca_file is None else readable(section, "ca_file", ca_file)
    )
    if certificate_file is not None:
        readable(section, "certificate_file", certificate_file)
        key = None if key_file is None else str(key_file)
        try:
            context.load_cert_chain(certificate_file, key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise SecurityUnusable(
                f"{section}.certificate_file {certificate_file} and key_file {key}: {error}; they "
                "must be PEM, belong together, and the key must have no passphrase"
            ) from error
    return context


def readable(section: str, field: str, path: Path) -> str:
    """The path of a PEM file, which was found to hold certificates; raises SecurityUnusable."""
    try:
        ssl.create_default_context(cadata=path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise SecurityUnusable(
            f"{section}.{field} {path}: {error}; name a PEM file that this user may read"
        ) from error
    return str(path)


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase")
