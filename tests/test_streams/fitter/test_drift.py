"""A fitter looks at drift once an hour, and refits by it at most once a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.btyd import MbgNbd
from models.candidates import HELD_OUT_DAYS, fit_candidate
from models.contracts.parameters import Parameters
from models.population import Population
from streams.fitter.fitter import Fitter, Kind
from streams.kafka.connection import Broker
from streams.registry.registry import Registry
from streams.settings import Settings
from tests.test_models.events import START
from tests.test_models.populations import CONFIG, histories, of_days

SHOP = MbgNbd(r=0.8, alpha=30.0, a=0.5, b=2.5)
DAYS = 240
NOW = START + timedelta(days=DAYS)


@pytest.fixture(scope="module")
def fitted() -> Parameters:
    shop = of_days(histories(SHOP, 300, DAYS))
    return fit_candidate(shop, until=NOW, economics=CONFIG).parameters


def fitter(population: Population, in_force: Parameters, clock: list[datetime]) -> Fitter:
    async def check() -> None:
        """The partitions are as many as ever."""

    registry = Registry("USD")
    registry.take(in_force.version.encode(), in_force.model_dump_json().encode())
    customers = SimpleNamespace(population=population, check=check)
    reader = SimpleNamespace(registry=registry)
    return Fitter(
        Settings(economics=CONFIG), Broker("127.0.0.1:1"), cast("Any", customers),
        cast("Any", reader), kind=Kind(), now=lambda: clock[0],
    )  # fmt: skip


@pytest.mark.parametrize(("silent", "found"), [(True, True), (False, False)])
async def test_drift_is_noticed(fitted: Parameters, silent: bool, found: bool) -> None:
    last = DAYS - HELD_OUT_DAYS if silent else None
    shop = of_days(histories(SHOP, 300, DAYS, last_day=last))
    in_force = fitted.model_copy(update={"holds_from": NOW - timedelta(days=3)})
    clock = [NOW]
    watching = fitter(shop, in_force, clock)
    why = await watching._check()
    assert (why is not None) is found
    if why is not None:
        assert why.startswith("drift: 0 purchases in 28 days")
    clock[0] += timedelta(minutes=59)
    assert await watching._check() is None
    clock[0] += timedelta(minutes=1)
    assert (await watching._check() is not None) is found


async def test_parameters_of_today_are_left_alone(fitted: Parameters) -> None:
    shop = of_days(histories(SHOP, 300, DAYS, last_day=DAYS - HELD_OUT_DAYS))
    in_force = fitted.model_copy(update={"holds_from": NOW - timedelta(hours=23)})
    assert await fitter(shop, in_force, [NOW.astimezone(UTC)])._check() is None
