"""Whole populations for tests: from purchase days of each customer, or a million at once."""

import numpy as np

from models.aggregate.fold import fold
from models.aggregate.state import Aggregate
from models.btyd import PurchaseModel
from models.economics import Economics
from models.population import _MASKS, _WORD, MASK_DAYS, Population
from models.value import MONEY_SCALE, Row

from .events import START, opened, placed
from .simulated import simulated

CONFIG = Economics(remembered=2_000)
FIRST = START.date().toordinal()


def of_days(histories, total="40.00", totals=None):
    """A population with an order on each of these days, counted from `FIRST`.

    totals: of the orders of some customers, by number.
    """
    found = Population(CONFIG)
    for number, days in enumerate(histories):
        state = Aggregate()
        for n, day in enumerate(days):
            amount = (totals or {}).get(number, total)
            fold(state, placed(f"{number}-{n}", day, amount), CONFIG)
        found.put(str(number).encode(), state)
    return found


def histories(model, customers, days, seed=1, last_day=None):
    """Purchase days of customers who came evenly over these days, drawn from a model in days.

    last_day: nobody buys after it.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(customers):
        first = rng.uniform(0, days)
        rate, dropout = rng.gamma(model.r, 1 / model.alpha), rng.beta(model.a, model.b)
        mine, now = [first], first
        while rng.random() >= dropout:
            now += rng.exponential(1 / rate)
            if now >= days:
                break
            mine.append(now)
        whole = sorted({int(day) for day in mine})
        found.append([day for day in whole if last_day is None or day <= last_day])
    return [each for each in found if each]


def complaining(weight, customers, days, seed=11):
    """States of customers over these days, of whom those who complain after a purchase leave as if
    it had such a weight."""
    rng = np.random.default_rng(seed)
    states = []
    for _ in range(customers):
        day = rng.uniform(0, days - 60)
        rate, stays = rng.gamma(2.0, 1 / 40), 1 - rng.beta(1.0, 4.0)
        states.append(state := Aggregate())
        while day <= days:
            fold(state, placed(f"o{day}", int(day)), CONFIG)
            complains = rng.random() < 0.4
            if complains:
                fold(state, opened(f"t{day}", int(day), complaint=True), CONFIG)
            if rng.random() > stays ** (weight if complains else 1):
                break
            day += 1 + rng.exponential(1 / rate)
    return states


def of_states(states):
    """A population of these states."""
    found = Population(CONFIG)
    for number, state in enumerate(states):
        found.put(str(number).encode(), state)
    return found


def synthetic(model: PurchaseModel, customers: int, today: int, seed: int = 1) -> Population:
    """A population of a size that cannot be folded in a test, written as `put` writes it."""
    rng = np.random.default_rng(seed)
    age = np.floor(rng.uniform(0, 1_500, customers))
    x, t_x, _ = simulated(model, age, rng)
    t_x = np.floor(t_x)
    x = np.minimum(x, t_x)
    days = x + 1
    mean = rng.gamma(14 * days, 1 / (14 * days * rng.gamma(3.1, 1 / 26.6, customers)))
    gross = np.maximum(np.round(days * mean * MONEY_SCALE), MONEY_SCALE)
    found = Population(CONFIG)
    given = {
        "orders": days, "purchase_days": days, "kept_days": days, "recency": t_x, "T": t_x,
        "repeat_gross": gross - gross / days, "kept_gross": gross, "margin": gross * 0.3,
    }  # fmt: skip
    row = Row(*(given.get(name, np.zeros(customers)) for name in Row._fields))
    first = today - age
    # The last day, the first one, and others in between, as many as there were.
    masks = np.zeros((len(_MASKS), customers), dtype=np.int64)
    masks[0] = 1
    near = (t_x > 0) & (t_x <= MASK_DAYS)
    word, bit = np.divmod(t_x[near].astype(np.int64), _WORD)
    masks[word, near] |= 1 << bit
    left = np.maximum(x - 1, 0)
    for day in range(1, MASK_DAYS + 1):
        likely = rng.random(customers) < left / np.maximum(t_x - 1, 1)
        more = (t_x > day) & (left > 0) & likely
        masks[day // _WORD] |= more.astype(np.int64) << (day % _WORD)
        left -= more
    before = np.where(t_x > MASK_DAYS, first, 0)
    nobody = np.zeros(customers)
    columns = [*row, first, first + t_x, nobody, nobody, before, *masks]
    found._table = np.stack(columns).astype(np.int64)
    found._places = {str(n).encode(): n for n in range(customers)}
    return found
