"""Configuration of the service: environment variables `CLV_…`, or a TOML file named by CLV_CONFIG.

Nested names are joined by two underscores: CLV_ECONOMICS__MARGIN, CLV_TOPICS__ORDERS. Unknown names
are refused, in the environment and in the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models.economics import Economics
from models.errors import ClvError
from models.rates import DailyRates, InvalidRates, read_ecb
from models.refresh import Refresh
from models.segments import DEFAULT_RULES, Dimension, Rules, check_together, named_rules
from streams.addresses import broker_address, redis_address
from streams.variables import unknown_variables

ERASURE_KEY_BYTES = 32
"""Least length of the erasure key, in bytes: 32 random bytes, or more in hex or base64."""

_TOKEN_CHARACTERS = 20
"""Least length of a token of the read API."""

MAKE_ERASURE_KEY = "python -c 'import secrets; print(secrets.token_hex(32))'"

TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9.-]{0,200}$")]
"""Without underscores: Kafka's metric names do not tell them from dots."""


class ErasureKeyMissing(ClvError):
    """No erasure key is configured: set CLV_ERASURE_KEY, the same for all workers, for ever."""


class Topics(BaseModel):
    """Names of the topics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orders: TopicName = "shop.orders"
    support: TopicName = "shop.support"
    customers: TopicName = "shop.customers"
    identities: TopicName = "shop.identities"
    """Merges and erasures: whoever may write here can remove a customer's value."""
    backfill: TopicName = "clv.backfill"
    """History, published only by `clv backfill`."""
    updates: TopicName = "clv.updates"
    segment_changes: TopicName = "clv.segment-changes"
    dead_letters: TopicName = "clv.dead-letters"
    models: TopicName = "clv.models"
    clock: TopicName = "clv.clock"
    identity: TopicName = "clv.identity"
    """Between workers: messages of customers who are merged or erased."""
    rerouted: TopicName = "clv.rerouted"
    """Between workers: misrouted records."""

    @model_validator(mode="after")
    def _each_its_own(self) -> Self:
        """Refuse one name for two roles: the topic decides what records mean and who may write."""
        for name, role in self._roles.items():
            if (first := next(r for r, n in self if n == name)) != role:
                raise ValueError(
                    f"{first} and {role} are both {name!r}: each needs a topic of its own"
                )
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics to which events are published."""
        return self.orders, self.support, self.customers, self.identities, self.backfill

    @property
    def sources(self) -> tuple[str, ...]:
        """All topics whose records a worker processes."""
        return (*self.inputs, self.rerouted, self.identity, self.clock)

    def named(self, role: str) -> str:
        """Return the name of a role's topic."""
        name: str = getattr(self, role)
        return name

    def role(self, name: str) -> str:
        """Return a topic's role: its field's name. Errors: KeyError for an unknown topic."""
        return self._roles[name]

    @cached_property
    def _roles(self) -> Mapping[str, str]:
        names: dict[str, str] = self.model_dump()
        return {name: role for role, name in names.items()}


class KafkaSecurity(BaseModel):
    """How clients and Kafka authenticate to each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    """A file that contains the password, instead of `password`."""
    ca_file: Path | None = None
    """Trusted certificates, PEM; None: those of the system."""
    certificate_file: Path | None = None
    """This client's certificate, PEM, if the broker asks for one."""
    key_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        password = _one_password(self.password, self.password_file)
        if self.protocol.startswith("SASL") and (self.username is None or not password):
            raise ValueError(f"protocol {self.protocol} needs username and password")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class RedisSecurity(BaseModel):
    """How clients and Redis authenticate to each other; a rediss:// URL turns TLS on."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_password(self.password, self.password_file)
        return self


class Serve(BaseModel):
    """The read API of `clv serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    """Address to listen on; other machines reach it only with read tokens."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8090
    read_tokens: tuple[SecretStr, ...] = ()
    """One of them must come with each request; none: everybody on this machine may read."""
    write_tokens: tuple[SecretStr, ...] = ()
    """Who has one of them may read, and send dead letters again; none: nobody may."""
    now: AwareDatetime | None = None
    """From when what is to come counts, where old events are shown; None: from the clock's time."""

    @field_validator("read_tokens", "write_tokens")
    @classmethod
    def _long_enough(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(token.get_secret_value()) < _TOKEN_CHARACTERS for token in tokens):
            raise ValueError(
                f"a token needs {_TOKEN_CHARACTERS} characters or more that nobody can guess; "
                f"make one by: {MAKE_ERASURE_KEY}"
            )
        return tokens


class Tracing(BaseModel):
    """Traces of a worker's batches."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    """Where a collector takes OTLP over HTTP, without a login; None: no traces."""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the batches that are recorded."""


def _one_password(password: SecretStr | None, file: Path | None) -> bool:
    """Return whether there is a password; ValueError if it is given in two ways."""
    if password is not None and file is not None:
        raise ValueError("give password or password_file, not both")
    return password is not None or file is not None


def _read_rates(path: Path) -> DailyRates:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return replace(read_ecb(lines), file=str(path))
    except (OSError, UnicodeDecodeError, InvalidRates) as error:
        raise ValueError(f"the exchange rates cannot be read: {error}") from error


class _UnknownVariables(PydanticBaseSettingsSource):
    """Passes unknown variables on as unknown fields, so that they are refused.

    pydantic-settings ignores them, for example a misspelt CLV_KAFKA_SECURITY__PROTOCOL.
    """

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - pydantic-settings passes it
        field_name: str,
    ) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict.fromkeys(unknown_variables(self.settings_cls, os.environ))


class Settings(BaseSettings):
    """Everything that can be configured, with defaults that work on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="CLV_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    broker: str | None = None
    """Bootstrap servers, "host:port,host:port"; None: an embedded broker, in commands with one."""
    redis: str | None = None
    """Redis URL, "redis://host:port/0"; None: an embedded Redis, in commands with one."""
    app_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9.-]{0,100}$")] = "clv"
    """Consumer group, and prefix of the changelog topic."""
    topics: Topics = Topics()
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Partitions of newly created topics."""
    replication: Annotated[int, Field(ge=1, le=15)] = 1
    commit_interval: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds between commits of offsets."""
    sweep_interval: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """Seconds between two looks at who is due, by the wall clock; 0: nobody looks, and what time
    brings is told with the next event or tick."""
    refresh: Refresh = Refresh()
    """When the value of a customer without new events is published again."""
    explain_values: bool = False
    """Whether updates say what has moved the value since the update before. Which updates there are
    depends on where batches end, and so do these."""
    session_timeout: Annotated[float, Field(gt=0, le=300)] = 10.0
    heartbeat_interval: Annotated[float, Field(gt=0, le=100)] = 3.0
    poll_records: Annotated[int, Field(ge=1, le=10_000)] = 5_000
    """Largest number of records in a batch; a customer's changes in a batch are stored once."""
    redis_prefix: Annotated[str, Field(min_length=1, max_length=100)] = "clv"
    kafka_security: KafkaSecurity = KafkaSecurity()
    redis_security: RedisSecurity = RedisSecurity()
    state_dir: Path | None = None
    """Directory for copies of a worker's tables, so that a restart reads only newer records."""
    health_host: str = "127.0.0.1"
    health_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Port of the server of /live, /ready and /health; None: no server."""
    stall_timeout: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Seconds without progress, while records wait, after which a worker ends to be restarted."""
    erasure_key: SecretStr | None = None
    """Secret of the fingerprints of erased customers: any text of at least 32 bytes, the same in
    all workers, for ever."""
    serve: Serve = Serve()
    tracing: Tracing = Tracing()
    economics: Economics = Economics()
    dimensions: tuple[Dimension, ...] | None = None
    """Rules of segments, which a first worker puts in force; None: those of this version."""
    rates_file: Path | None = None
    """Exchange rates by day, in the format of the European Central Bank's history: euros are its
    base. Read at start."""

    @field_validator("dimensions")
    @classmethod
    def _together(cls, dimensions: tuple[Dimension, ...] | None) -> tuple[Dimension, ...] | None:
        return None if dimensions is None else check_together(dimensions)

    @property
    def rules(self) -> Rules:
        """The configured rules of segments, or the default ones."""
        return DEFAULT_RULES if self.dimensions is None else named_rules(self.dimensions)

    @field_validator("rates_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            _read_rates(path)
        return path

    @model_validator(mode="after")
    def _with_rates(self) -> Self:
        if self.rates_file is not None and self.economics.daily_rates is None:
            rates = _read_rates(self.rates_file)
            economics = self.economics.model_copy(update={"daily_rates": rates})
            object.__setattr__(self, "economics", economics)
        return self

    @field_validator("broker")
    @classmethod
    def _without_login(cls, servers: str | None) -> str | None:
        return None if servers is None else broker_address(servers)

    @field_validator("redis")
    @classmethod
    def _a_url(cls, url: str | None) -> str | None:
        return None if url is None else redis_address(url)

    @field_validator("erasure_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and (size := len(key.get_secret_value().encode())) < ERASURE_KEY_BYTES:
            raise ValueError(
                f"it has {size} bytes, and needs {ERASURE_KEY_BYTES} or more that nobody can "
                f"guess; make one by: {MAKE_ERASURE_KEY}"
            )
        return key

    @property
    def erasure_secret(self) -> bytes:
        """The erasure key as bytes; raises ErasureKeyMissing."""
        if self.erasure_key is None:
            raise ErasureKeyMissing(
                "no erasure key is configured: erased customers are remembered by fingerprints, "
                "and without a key everybody can tell whose they are. Set CLV_ERASURE_KEY to a "
                f"text of at least {ERASURE_KEY_BYTES} bytes, the same for all workers and for "
                f"ever; make one by: {MAKE_ERASURE_KEY}"
            )
        return self.erasure_key.get_secret_value().encode()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use arguments first, then the environment, then the file that CLV_CONFIG names."""
        sources = [init_settings, env_settings, _UnknownVariables(settings_cls)]
        if path := os.environ.get("CLV_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)
