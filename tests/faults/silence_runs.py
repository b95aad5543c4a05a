"""Runs in which time passes: the workers' clock goes from stage to stage while something breaks."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable
from datetime import datetime

from models.btyd import MbgNbd
from models.contracts.parameters import Parameters
from models.segments import Rules, named_rules
from models.segments.rules import Dimension
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.registry.reading import write_document
from streams.registry.records import rules_key
from tests.faults.passing_time import (
    OTHER_PURCHASES,
    RULES_FILE,
    PassingTime,
    other_dimensions,
)
from tests.faults.publishing import Published
from tests.faults.silences import Change, Dimensions
from tests.faults.waiting import inputs_done
from tests.faults.world import World

PUBLISHING_SECONDS = 0.5
"""Of what happens in one stage."""

DAWDLE_SECONDS = 0.6
"""For so long at most a stage goes on when all is worked on."""

AFTER_SECONDS = 1.0
"""In which nothing more may be told when everything was: several sweeps."""

POLL_SECONDS = 0.3

ENVIRONMENT = (("CLV_CONFIG", str(RULES_FILE)), ("CLV_SWEEP_INTERVAL", "0.2"))
"""Of the workers."""


def rules_of(dimensions: Dimensions, since: datetime | None = None) -> Rules:
    """Return rules as they are published; since: from when they hold."""
    made = named_rules(tuple(Dimension.model_validate(each) for each in dimensions))
    return made.model_copy(update={"holds_from": since})


def other_parameters(version: str, since: datetime) -> Parameters:
    """Return parameters as they are published, that hold from a time."""
    fitted = OTHER_PURCHASES._asdict()
    unsteadiness = fitted.pop("unsteadiness")
    return Parameters(
        version=version,
        model=MbgNbd.name,
        currency="USD",
        fitted_until=since,
        holds_from=since,
        customers=1_000,
        log_likelihood=-1.0,
        purchases=MbgNbd(**fitted).with_unsteadiness(unsteadiness),
    )


async def announce(here: World, workload: PassingTime) -> None:
    """Publish what comes into force on the way, before the workers' clock is there."""
    broker, topic = Broker(here.direct), here.settings.topics.models
    if workload.new_parameters_at is not None:
        parameters = other_parameters(f"new-{workload.run_id}", workload.new_parameters_at)
        await publish_parameters(broker, topic, parameters)
    if workload.new_rules_at is not None:
        rules = rules_of(other_dimensions(), workload.new_rules_at)
        await write_document(broker, topic, rules_key(rules.version), rules)


async def pass_time(here: World, workload: PassingTime, seed: int, patience: float) -> Published:
    """Set the clock from stage to stage, each when what happened in the last one is worked on."""
    dice, published = random.Random(f"stages {seed}"), Published()
    for stage in workload.stages:
        here.set_clock(stage.clock)
        own = await here.publisher.publish(stage.items, PUBLISHING_SECONDS)
        published.acknowledged += own.acknowledged
        published.repeated += own.repeated
        await inputs_done(here, patience)
        await asyncio.sleep(dice.uniform(0, DAWDLE_SECONDS))
    return published


async def all_told(here: World, expected: Iterable[Change], seconds: float) -> None:
    """Wait until every change was published, at most so long, and then for what is too much."""
    wanted = {each.id for each in expected}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await here.logs.read()
        records = here.logs.records[here.settings.topics.segment_changes]
        if wanted <= {json.loads(each.value)["id"] for each in records}:
            break
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.sleep(AFTER_SECONDS)
