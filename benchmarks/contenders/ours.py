"""The worker of this project, with its model, state, outputs, segments and Redis all on."""

import asyncio
import os
import sys
from datetime import UTC, datetime

from benchmarks.contenders.settings import Settings as Run
from models.btyd import BgNbd, GammaGamma
from models.contracts.parameters import (
    Parameters,
    TierThresholds,
)
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.settings import Settings, Topics
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.topics import prepare_topics

# As fitted on CDNOW, so that scoring costs what it costs in use.
PARAMETERS = Parameters(
    version="cdnow",
    time_unit="week",
    currency="EUR",
    fitted_until=datetime(1997, 9, 30, tzinfo=UTC),
    customers=2_357,
    log_likelihood=-9_582.429,
    purchases=BgNbd(r=0.2425945, alpha=4.4136019, a=0.7929199, b=2.4258881),
    order_value=GammaGamma(p=6.25, q=3.74, v=15.44),
    tiers=TierThresholds(gold=60.0, silver=20.0),
)


def environment(run: Run) -> dict[str, str]:
    """Return the run's settings in the names of our own configuration."""
    told = {
        "CLV_BROKER": run.broker,
        "CLV_REDIS": run.redis,
        "CLV_APP_ID": run.app_id,
        "CLV_PARTITIONS": str(run.partitions),
        "CLV_COMMIT_INTERVAL": str(run.commit_interval),
        "CLV_SESSION_TIMEOUT": str(run.broker_session_timeout),
        "CLV_HEARTBEAT_INTERVAL": str(run.broker_heartbeat_interval),
        "CLV_ECONOMICS__CURRENCY": run.currency,
        "CLV_ERASURE_KEY": TESTING_ERASURE_KEY.get_secret_value(),
    }
    for name in Topics.model_fields:
        told[f"CLV_TOPICS__{name.upper()}"] = getattr(run, f"topics_{name}")
    return told


async def publish_model(run: Run) -> None:
    """Put the parameters where the worker finds them."""
    settings = Settings()
    await prepare_topics(settings, Broker(run.broker))
    await publish_parameters(
        Broker(run.broker),
        settings.topics.models,
        PARAMETERS.model_copy(update={"currency": run.currency}),
    )


def main() -> None:
    """Become the worker, so that the runner measures the worker itself."""
    run = Run.from_environ()
    os.environ.update(environment(run))
    asyncio.run(publish_model(run))
    os.execv(sys.executable, [sys.executable, "-m", "streams.cli", "worker"])


if __name__ == "__main__":
    main()
