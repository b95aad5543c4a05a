"""The model is chosen by what it has not seen."""

import math
import random
from datetime import date

import numpy as np
import pytest

from models.aggregate.state import Aggregate
from models.btyd import MODELS, MbgNbd
from models.choosing import HELD_OUT_DAYS, choose, log_scores
from models.currencies import HOME
from models.economics import Economics
from models.events.orders import Order
from models.population import Population, Seen

from .test_models_of_purchases import EXAMPLES

ECONOMICS = Economics()
START = date(2025, 1, 1)
END = START.toordinal() + 300


def state_of(days):
    """A customer with an order on each of these days after the start."""
    since = (START - date(1970, 1, 1)).days
    return Aggregate(
        orders={
            number: Order(0, (since + day) * 86_400_000, 0, 400_000, HOME, -1)
            for number, day in enumerate(sorted(set(days)))
        }
    )


def shop(customers, stay):
    """Customers who buy once a month, and after each purchase stay with this probability."""
    dice = random.Random(7)
    population = Population(ECONOMICS)
    for number in range(customers):
        day, days = dice.randrange(100), []
        while day <= 300:
            days.append(day)
            if dice.random() > stay:
                break
            day += max(1, round(dice.expovariate(1 / 30)))
        population.put(str(number).encode(), state_of(days))
    return population


@pytest.mark.parametrize("name", MODELS)
def test_the_probabilities_of_all_numbers_sum_to_one(name):
    n = np.arange(400.0)
    seen = Seen(*(np.full(n.shape, value) for value in (2.0, 30.0, 39.0)), n)
    assert np.exp(log_scores(EXAMPLES[name], seen, 8.0)).sum() == pytest.approx(1, rel=1e-9)


def test_a_log_score_by_hand():
    model = MbgNbd(0.5, 10.0, 0.7, 2.5)
    seen = Seen(*(np.array([value]) for value in (2.0, 30.0, 39.0, 0.0)))
    none = 1 - float(model.probability_of_at_least(1, 8.0, 2.0, 30.0, 39.0))
    assert log_scores(model, seen, 8.0)[0] == pytest.approx(math.log(none), rel=1e-12)


def test_one_time_buyers_are_better_predicted_by_a_model_in_which_they_leave():
    choice = choose(shop(3_000, stay=0.5), END, default="bg-nbd")
    assert choice.model in {"mbg-nbd", "pareto-nbd"}
    assert choice.scores[choice.model] > choice.scores["bg-nbd"] + 1.0
    assert f"{choice.model}, ahead by" in choice.why
    assert choose(shop(3_000, stay=0.5), END, default=choice.model).model == choice.model


def test_without_history_it_is_the_default():
    population = Population(ECONOMICS)
    assert choose(population, END, "mbg-nbd").model == "mbg-nbd"
    population.put(b"new", state_of([300]))
    choice = choose(population, END, "mbg-nbd")
    assert (choice.model, choice.scores) == ("mbg-nbd", {})
    assert f"nobody had bought {HELD_OUT_DAYS} days before the end" in choice.why
