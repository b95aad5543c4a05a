"""After the stream has consumed a data set, everybody's value is what the batch says.

So are the segments, by rules without bounds to leave: the batch does not know what somebody was.
"""

import json
import math
import random
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from models.context import Context
from models.contracts.clock import Tick
from models.economics import Economics
from models.segments import DEFAULT_RULES
from streams.batch import end_of_day, fit_states, fold_events, score_events
from streams.datasets import DATASETS
from streams.datasets.dataset import DatasetMissingError
from streams.datasets.simulate import with_simulation
from streams.rules import publish_rules
from tests.test_models.memoryless import without_memory

from .cluster import cluster

START = datetime(1990, 1, 1, tzinfo=UTC)
"""Before the first event."""

SIMULATED = "cdnow, with simulated support, refunds and acquisition"


@cache
def events_of(name):
    if name == SIMULATED:
        return list(with_simulation(DATASETS["cdnow"], seed=1))
    try:
        return list(DATASETS[name].events())
    except DatasetMissingError as missing:
        pytest.skip(str(missing))


def dataset_of(name):
    return DATASETS["cdnow" if name == SIMULATED else name]


@cache
def batch_of(name):
    """Fitted parameters, and each customer's document by the batch."""
    events, dataset = events_of(name), dataset_of(name)
    economics = Economics(currency=dataset.currency)
    rules = without_memory(DEFAULT_RULES)
    folded = fold_events(events, Context(economics), end_of_day(dataset.as_of, economics))
    parameters = fit_states(folded.states, dataset.as_of, "day", economics).parameters
    batch = score_events(events, Context(economics, parameters, rules), dataset.as_of)
    return parameters, {u.customer_id: json.loads(u.document)["data"] for u in batch.updates}


def differences(expected, actual, path=""):
    """Where two documents differ: exactly, but floats by more than 1e-9 relatively."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in expected.keys() | actual.keys():
            if path == "" and key == "version":
                continue
            yield from differences(expected.get(key), actual.get(key), f"{path}.{key}")
    elif isinstance(expected, float) and isinstance(actual, int | float):
        if not math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-9):
            yield path, expected, actual
    elif expected != actual:
        yield path, expected, actual


EXACT = ("statistics", "realised", "totals", "windows", "segments")


def assert_equal(expected, actual):
    assert actual.keys() == expected.keys()
    for customer, document in expected.items():
        if document | {"version": 0} == actual[customer] | {"version": 0}:
            continue  # To the last digit, as they are nearly always.
        assert list(differences(document, actual[customer])) == [], customer
        for part in EXACT:
            assert actual[customer][part] == document[part], (customer, part)


@pytest.mark.parametrize(
    ("name", "shuffled", "workers", "broker"),
    [
        pytest.param("cdnow", False, 1, "embedded", marks=pytest.mark.heavy),
        pytest.param(SIMULATED, True, 2, "embedded", marks=pytest.mark.slow),
        (SIMULATED, True, 2, "kafka"),
        pytest.param("online-retail", False, 1, "embedded", marks=pytest.mark.heavy),
        pytest.param("online-retail", True, 2, "embedded", marks=pytest.mark.slow),
    ],
)
async def test_streaming_equals_batch(name, shuffled, workers, broker, tmp_path: Path):
    events = events_of(name)
    dataset = dataset_of(name)
    economics = Economics(currency=dataset.currency)
    parameters, expected = batch_of(name)
    sent = events
    if shuffled:
        dice = random.Random(5)
        sent = events + dice.sample(events, len(events) // 5)
        dice.shuffle(sent)
    async with cluster(tmp_path, broker, economics=economics) as service:
        await service.publish_parameters(parameters)
        rules = without_memory(DEFAULT_RULES)
        await publish_rules(service.settings, service.broker, rules, START)
        for _ in range(workers):
            await service.start_worker()
        assert await service.publish(sent) == len(sent)
        await service.settled()
        await service.tick(Tick(as_of=dataset.as_of, parameters=parameters.version))
        await service.settled()
        assert_equal(expected, await service.updates())
        assert_equal(expected, await service.cached(expected))
        letters = await service.records(service.settings.topics.dead_letters)
        for worker in service.workers:
            assert await worker.stop() == 0, worker.log.read_text()[-2_000:]
    refused = sum(1 for event in sent if event.key is None)
    assert len(letters) == refused
