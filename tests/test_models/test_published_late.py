"""Parameters and rules that hold since before customers were told of last."""

import json
from datetime import timedelta
from itertools import count, pairwise

import pytest

from models.btyd import MbgNbd
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.refresh import Refresh
from models.segments import named_rules
from models.timeline import Timeline

from .events import START, milliseconds
from .parameters import PARAMETERS
from .test_catching_up import RULES, WATCHED, dimension, said
from .test_engine import store

ECONOMICS = Economics()
FICKLE = PARAMETERS.model_copy(
    update={
        "version": "fickle",
        "model": "mbg-nbd",
        "purchases": MbgNbd(r=0.5, alpha=6.0, a=5.0, b=0.5),
        "contacts_per": "purchase",
    }
)
AGE = dimension(
    "age",
    {
        "id": "short",
        "segment": "short",
        "all": [{"feature": "days_since_last_order", "is": "below", "bound": 90}],
    },
    {"id": "long", "segment": "long"},
)
LATE = 200
"""Days after the start, when they are published."""
END = 260


def context_of(*, parameters=(), rules=()):
    timeline, rules_timeline = Timeline().with_(PARAMETERS), Timeline().with_(RULES)
    for each in parameters:
        timeline = timeline.with_(each)
    for each in rules:
        rules_timeline = rules_timeline.with_(each)
    return Context(ECONOMICS, timeline, rules_timeline, refresh=Refresh(days=7))


def others(days):
    """Other parameters, and other rules, that hold from so many days after the start."""
    since = START + timedelta(days=days)
    return (
        context_of(parameters=[FICKLE.model_copy(update={"holds_from": since})]),
        context_of(rules=[named_rules((*WATCHED, AGE)).model_copy(update={"holds_from": since})]),
    )


def told(history, contexts):
    """Publish, and sweep at midnights, each day with its context; return the updates and changes.

    contexts: by the day from which each is used. Updates are by order of publication.
    """
    states, offsets = {}, count()
    first = contexts[0]
    outputs = process(states, "shop.orders/0", history, first, now=milliseconds(END))
    updates, changes = [], []
    day = ECONOMICS.day(milliseconds(0))
    for number in range(1, END):
        store(states, outputs)
        updates += [json.loads(each.document) for each in outputs.updates]
        changes += [json.loads(document) for _, document in outputs.segment_changes]
        context = contexts[max(each for each in contexts if each <= number)]
        outputs = advance(
            states,
            [b"c1"],
            "clv.clock/0",
            next(offsets),
            context,
            as_of=ECONOMICS.day_begins(day + number),
            due_only=True,
        )
    return updates, changes


@pytest.mark.parametrize("days", [30, 100, 193, 193.5, 196, 199, 200])
@pytest.mark.parametrize("what", ["parameters", "rules"])
def test_nothing_is_told_as_of_before_what_was_told(what, days):
    """They count from then on; a tick has everybody scored by them at once."""
    late = others(days)[what == "rules"]
    history = [said(n, "order.placed", "c1", day, n) for n, day in enumerate((0, 7, 20))]
    updates, changes = told(history, {0: context_of(), LATE: late})
    order = [(each["data"]["version"], each["data"]["as_of"]) for each in updates]
    assert all(earlier < later for earlier, later in pairwise(order))
    for documents in (updates, changes):
        ids = [each["id"] for each in documents]
        assert len(set(ids)) == len(ids)
    assert updates[-1]["data"]["model"]["version"] == late.model_at(milliseconds(LATE)).version
