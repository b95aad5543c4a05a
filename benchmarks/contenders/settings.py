"""What a contender is told: one set of environment variables, the same for all."""

import os
from dataclasses import asdict, dataclass
from typing import Literal

PREFIX = "BENCH_"
"""Not CLV_: what begins so and is no setting is refused by the service."""

BrokerKind = Literal["embedded", "kafka"]


@dataclass(frozen=True)
class Settings:
    """Addresses and topic names of one run; `app_id` is also the consumer group."""

    broker: str
    broker_kind: BrokerKind
    redis: str
    app_id: str
    topics_orders: str
    topics_support: str
    topics_customers: str
    topics_identities: str
    topics_backfill: str
    topics_updates: str
    topics_segment_changes: str
    topics_dead_letters: str
    topics_models: str
    topics_clock: str
    topics_identity: str
    topics_rerouted: str
    partitions: int
    has_support: bool
    """Whether the workload has support events; the topic is there in any case."""
    currency: str
    commit_interval: float = 0.5
    broker_session_timeout: float = 2.0
    broker_heartbeat_interval: float = 0.5

    @classmethod
    def for_run(
        cls,
        *,
        broker: str,
        broker_kind: BrokerKind,
        redis: str,
        app_id: str,
        has_support: bool,
        currency: str,
        partitions: int,
    ) -> "Settings":
        """Return the settings of a run, with topics of its own."""
        return cls(
            broker=broker,
            broker_kind=broker_kind,
            redis=redis,
            app_id=app_id,
            partitions=partitions,
            has_support=has_support,
            currency=currency,
            **{
                name: f"{app_id}.{name.removeprefix('topics_').replace('_', '-')}"
                for name in cls.__dataclass_fields__
                if name.startswith("topics_")
            },
        )

    @property
    def inputs(self) -> dict[Literal["orders", "support"], str]:
        """The topics that contenders read, by role."""
        return {"orders": self.topics_orders, "support": self.topics_support}

    def environ(self) -> dict[str, str]:
        """Return the settings as environment variables."""
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_environ(cls) -> "Settings":
        """Read what `environ` wrote."""
        kinds = {"int": int, "float": float, "bool": "True".__eq__}
        return cls(
            **{
                name: kinds.get(getattr(field.type, "__name__", ""), str)(
                    os.environ[f"{PREFIX}{name.upper()}"]
                )
                for name, field in cls.__dataclass_fields__.items()
            }
        )
