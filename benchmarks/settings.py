"""What a contender is told: one set of environment variables, the same for all."""

import os
from dataclasses import asdict, dataclass

PREFIX = "BENCH_"
"""Not CLV_: what begins so and is no setting is refused by the service."""


@dataclass(frozen=True)
class Settings:
    """Addresses and topic names of one run; `app_id` is also the consumer group."""

    broker: str
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
    commit_interval: float = 0.5
    broker_session_timeout: float = 2.0
    broker_heartbeat_interval: float = 0.5

    @classmethod
    def for_run(
        cls, *, broker: str, redis: str, app_id: str, orders: str, partitions: int
    ) -> "Settings":
        """Return the settings of a run that reads `orders`; every other topic is its own."""
        return cls(
            broker=broker,
            redis=redis,
            app_id=app_id,
            topics_orders=orders,
            topics_support=f"{app_id}.support",
            topics_customers=f"{app_id}.customers",
            topics_identities=f"{app_id}.identities",
            topics_backfill=f"{app_id}.backfill",
            topics_updates=f"{app_id}.updates",
            topics_segment_changes=f"{app_id}.segment-changes",
            topics_dead_letters=f"{app_id}.dead-letters",
            topics_models=f"{app_id}.models",
            topics_clock=f"{app_id}.clock",
            topics_identity=f"{app_id}.identity",
            topics_rerouted=f"{app_id}.rerouted",
            partitions=partitions,
        )

    def environ(self) -> dict[str, str]:
        """Return the settings as environment variables."""
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_environ(cls) -> "Settings":
        """Read what `environ` wrote."""
        texts = {name: os.environ[f"{PREFIX}{name.upper()}"] for name in cls.__dataclass_fields__}
        numbers = {
            name: float(texts.pop(name))
            for name in ("commit_interval", "broker_session_timeout", "broker_heartbeat_interval")
        }
        return cls(partitions=int(texts.pop("partitions")), **texts, **numbers)
