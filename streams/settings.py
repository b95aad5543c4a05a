"""Configuration of the service: environment variables `CLV_…`, or a TOML file named by CLV_CONFIG.

Nested names are joined by two underscores: CLV_ECONOMICS__MARGIN, CLV_TOPICS__ORDERS.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models.economics import Economics

TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9.-]{0,200}$")]
"""Dots and hyphens only: dots and underscores collide in metric names."""


class Topics(BaseModel):
    """Names of the topics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orders: TopicName = "shop.orders"
    support: TopicName = "shop.support"
    customers: TopicName = "shop.customers"
    updates: TopicName = "clv.updates"
    segment_changes: TopicName = "clv.segment-changes"
    dead_letters: TopicName = "clv.dead-letters"
    models: TopicName = "clv.models"
    clock: TopicName = "clv.clock"

    @property
    def inputs(self) -> tuple[str, str, str]:
        """The topics that publishers write to."""
        return self.orders, self.support, self.customers


class Settings(BaseSettings):
    """Everything that can be configured, with defaults that work on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="CLV_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    broker: str | None = None
    """Bootstrap servers, "host:port,host:port"; none: an embedded broker, where a command can."""
    redis: str | None = None
    """Redis URL, "redis://host:port/0"; none: an embedded Redis, where a command can."""
    app_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9.-]{0,100}$")] = "clv"
    """Consumer group, and prefix of the changelog topic."""
    topics: Topics = Topics()
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Partitions of topics that have to be created."""
    replication: Annotated[int, Field(ge=1, le=15)] = 1
    commit_interval: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds between commits of offsets."""
    session_timeout: Annotated[float, Field(gt=0, le=300)] = 10.0
    heartbeat_interval: Annotated[float, Field(gt=0, le=100)] = 3.0
    poll_records: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """Most records that are worked on at once."""
    redis_prefix: Annotated[str, Field(min_length=1, max_length=100)] = "clv"
    economics: Economics = Economics()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file that CLV_CONFIG names."""
        sources = [init_settings, env_settings]
        if path := os.environ.get("CLV_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)
