"""What time brings is told as of its own moment, however often somebody looked."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import decode_record
from models.aggregate.summary import Summary
from models.btyd import MbgNbd
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.outbox import OUTBOX_BYTES, DeliveryState, most_in_flight
from models.refresh import Refresh
from models.segments import DEFAULT_DIMENSIONS, Dimension, named_rules
from models.timeline import Timeline

from .events import START, KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS
from .test_engine import store

END = 1_100
"""Days after the start, when everybody is looked at for the last time."""

KEYS = [b"c1", b"c2"]


def dimension(name, *rules):
    return Dimension.model_validate({"name": name, "rules": [*rules]})


WATCHED = (
    *DEFAULT_DIMENSIONS,
    dimension(
        "busy",
        {
            "id": "busy",
            "segment": "busy",
            "all": [{"feature": "orders_90d", "is": "at least", "bound": 2}],
        },
        {
            "id": "seen",
            "segment": "seen",
            "any": [
                {"feature": "orders_30d", "is": "at least", "bound": 1},
                {"feature": "contacts_7d", "is": "at least", "bound": 1},
            ],
        },
        {"id": "quiet", "segment": "quiet"},
    ),
    dimension(
        "patient",
        {
            "id": "fresh",
            "segment": "fresh",
            "all": [
                {"feature": "days_since_last_order", "is": "at most", "bound": 10, "leave": 25}
            ],
        },
        {
            "id": "warm",
            "segment": "warm",
            "stay_days": 40,
            "all": [{"feature": "p_alive", "is": "at least", "bound": 0.6, "leave": 0.4}],
        },
        {"id": "cold", "segment": "cold"},
    ),
)
"""The default rules, windows, bounds to leave, and a minimum stay."""

LATER = PARAMETERS.model_copy(
    update={
        "version": "later",
        "holds_from": START + timedelta(days=300, hours=5),
        "model": "mbg-nbd",
        "purchases": MbgNbd(r=0.5, alpha=6.0, a=0.9, b=2.0),
        "contacts_per": "purchase",
    }
)
RULES = named_rules(WATCHED)
OTHER_RULES = named_rules(WATCHED[:4]).model_copy(
    update={"holds_from": START + timedelta(days=410)}
)
CONTEXTS = {
    "default rules": Context(Economics(), PARAMETERS),
    "windows, stays and bounds to leave": Context(
        Economics(timezone="Europe/Berlin"), PARAMETERS, RULES
    ),
    "new parameters and rules": Context(
        Economics(timezone="America/Sao_Paulo"),
        Timeline().with_(PARAMETERS).with_(LATER),
        Timeline().with_(RULES).with_(OTHER_RULES),
        refresh=Refresh(),
    ),
}


def said(offset, kind, customer, days, number):
    """An event as a record."""
    data = {"customer_id": customer}
    if kind == "order.placed":
        data |= {"order_id": f"o{number}", "placed_at": at(days), "currency": "USD"}
        data["total"] = f"{10 + number % 7 * 15}.00"
    elif kind == "order.cancelled":
        data |= {"order_id": f"o{number}", "cancelled_at": at(days)}
    else:
        data |= {"ticket_id": f"t{number}", "opened_at": at(days), "channel": "email"}
    return KafkaRecord(offset, milliseconds(days), customer.encode(), body(kind, data))


@st.composite
def histories(draw):
    """Events of two customers in order of time, each with its day."""
    kinds = st.sampled_from(["order.placed"] * 4 + ["order.cancelled", "ticket.opened"])
    days = sorted(
        draw(st.lists(st.integers(0, 3_200).map(lambda n: n / 4), min_size=1, max_size=14))
    )
    return [
        (
            day,
            said(
                offset,
                draw(kinds),
                draw(st.sampled_from(["c1", "c2"])),
                day,
                draw(st.integers(0, 9)),
            ),
        )
        for offset, day in enumerate(days)
    ]


def chains(history, context, sweeps=(), cuts=()):
    """Every customer's changes, as published; somebody sweeps at some days, and at the end.

    A batch ends at each cut and before each sweep.
    """
    states, told = {}, {}

    def take(outputs):
        store(states, outputs)
        for key, document in outputs.segment_changes:
            told.setdefault(key, []).append(document)

    offsets = count()

    def sweep(day):
        """Until nobody is due: an outbox may be full before that."""
        due, until = KEYS, milliseconds(day)
        while due:
            outputs = advance(
                states, due, "clv.clock/0", next(offsets), context, as_of=until, due_only=True
            )
            take(outputs)
            due = [key for key, moment in outputs.dues.items() if moment <= until]

    waiting = []

    def flush():
        if waiting:
            outputs = process(states, "shop.orders/0", waiting, context, now=milliseconds(END))
            assert outputs.taken == len(waiting)
            take(outputs)
            waiting.clear()

    moments = sorted(sweeps)
    for number, (day, record) in enumerate(history):
        while moments and moments[0] <= day:
            flush()
            sweep(moments.pop(0))
        waiting.append(record)
        if number in cuts:
            flush()
    flush()
    for day in [*moments, END]:
        sweep(day)
    return told, states


@pytest.mark.parametrize("name", CONTEXTS)
@settings(max_examples=8)
@given(history=histories(), data=st.data())
def test_the_chain_does_not_depend_on_who_looked_when(name, history, data):
    """Sweeping never, daily, weekly and at random times, in any batches, byte for byte."""
    context = CONTEXTS[name]
    expected, _ = chains(history, context)
    times = st.lists(st.floats(0, END), max_size=10)
    cuts = st.sets(st.integers(0, len(history)))
    assert chains(history, context, data.draw(times), data.draw(cuts))[0] == expected
    assert chains(history, context, range(0, END, 110), range(len(history)))[0] == expected


def facts(documents):
    """Day by day: what each change says, without evidence."""
    return [
        (each["time"], each["data"]["dimension"], each["data"]["previous"], each["data"]["current"])
        for each in map(json.loads, documents)
    ]


def by_the_day(history, customer, context):
    """A customer's changes, decided anew at each event, each midnight, and each new version."""
    economics = context.economics
    last = milliseconds(END)
    days = range(economics.day(milliseconds(0)), economics.day(last) + 1)
    moments = {economics.day_begins(day) for day in days}
    moments |= {context.next_start(moment) for moment in (0, milliseconds(300), milliseconds(400))}
    states, segments, since, found = {}, {}, {}, []
    own = [(milliseconds(day), each) for day, each in history if each.key == customer]
    for (moment, record), (after, _) in pairwise([*own, (last + 1, None)]):
        outputs = process(states, "shop.orders/0", [record], context, now=last)
        store(states, outputs)
        state = decode_record(states[customer]).aggregate
        summary, rows = Summary(state, economics), context.rows()
        looked = sorted(each for each in moments if moment < each <= min(after, last))
        if outputs.accepted:
            looked.insert(0, moment)
        for each in looked:
            rows.add(state, summary, each)
        scores = rows.scores()
        for row, each in enumerate(looked):
            decide(scores.decided(row), row, each, segments, since, found, economics)
    return found


def decide(decided, row, moment, segments, since, found, economics):
    """Note what changes at a moment."""
    time = datetime.fromtimestamp(moment / 1000, UTC).isoformat().replace("+00:00", "Z")
    for decisions in decided.dimensions:
        name = decisions.name
        index = decisions.decide(row, segments.get(name), since.get(name), moment, economics.day)
        current = decisions.segments[index]
        if current != segments.get(name):
            found.append((time, name, segments.get(name), current))
            segments[name], since[name] = current, moment
    for name in sorted(segments.keys() - decided.rules.by_name.keys()):
        found.append((time, name, segments.pop(name), None))


@pytest.mark.parametrize("name", CONTEXTS)
@given(history=histories())
def test_the_chain_is_that_of_a_look_at_every_midnight(name, history):
    context = CONTEXTS[name]
    told, _ = chains(history, context)
    for customer in KEYS:
        expected = sorted(by_the_day(history, customer, context), key=str)
        assert sorted(facts(told.get(customer, [])), key=str) == expected


MOST = 12
"""Outbox entries in flight; what a single silence brings under these rules is less."""


def make_small(monkeypatch, context, most):
    """Make entries so large that outboxes have room for so many."""
    monkeypatch.setitem(context.__dict__, "entry_bytes", OUTBOX_BYTES // most - 530)
    assert most_in_flight(context.entry_bytes) == most


def seldom(orders):
    """A customer who orders so seldom that each silence brings changes."""
    return [
        said(number, "order.placed", "c1", 30 + 130 * number, number) for number in range(orders)
    ]


def test_what_silence_brings_is_taken_in_parts_that_an_outbox_has_room_for(monkeypatch):
    context = CONTEXTS["windows, stays and bounds to leave"]
    history = [(30 + 130 * number, each) for number, each in enumerate(seldom(8))]
    expected = chains(history, context)[0][b"c1"]
    make_small(monkeypatch, context, MOST)
    waiting, states, told, parts = seldom(8), {}, [], 0
    while waiting:
        outputs = process(states, "shop.orders/0", waiting, context, now=milliseconds(END))
        assert outputs.taken
        store(states, outputs)
        told += [document for _, document in outputs.segment_changes]
        assert len(decode_record(states[b"c1"]).outbox) <= MOST
        waiting = waiting[outputs.taken :]
        parts += 1
    assert parts > 1
    assert told == expected[: len(told)]


def test_an_event_waits_while_the_outbox_has_no_room_for_the_silence_before_it(monkeypatch):
    context = CONTEXTS["windows, stays and bounds to leave"]
    first, *later = seldom(2)
    states = {}
    store(states, process(states, "shop.orders/0", [first], context, now=milliseconds(END)))
    make_small(monkeypatch, context, 2)
    now = milliseconds(END)
    waits = process(
        states,
        "shop.orders/0",
        later,
        context,
        now=now,
        delivery_of=lambda _origin, _offset: DeliveryState.IN_FLIGHT,
    )
    assert (waits.taken, waits.records, waits.segment_changes) == (0, {}, [])
    assert process(states, "shop.orders/0", later, context, now=now).taken == 1


def test_a_sweep_goes_on_where_the_outbox_was_full(monkeypatch):
    """A step at a time: two changes are told, delivered, and then the next two."""
    context = CONTEXTS["windows, stays and bounds to leave"]
    expected = chains([(30, seldom(1)[0])], context)[0][b"c1"]
    make_small(monkeypatch, context, 2)
    states, told = {}, []
    outputs = process(states, "shop.orders/0", seldom(1), context, now=milliseconds(END))
    for number in range(200):
        store(states, outputs)
        told += [document for _, document in outputs.segment_changes]
        if outputs.dues[b"c1"] > milliseconds(END):
            break
        assert number == 0 or len(decode_record(states[b"c1"]).outbox) <= 2
        outputs = advance(
            states, KEYS, "clv.clock/0", number, context, as_of=milliseconds(END), due_only=True
        )
    assert number > 3
    assert told == expected


def test_other_settings_count_from_the_next_look_into_a_silence():
    """A turn that was found before is found anew: the margin decides when a tier is left."""
    records = [said(n, "order.placed", "c1", day, n) for n, day in enumerate((0, 20, 50))]
    much = {"feature": "expected", "is": "at least", "bound": 5}
    worth = dimension(
        "worth", {"id": "much", "segment": "much", "all": [much]}, {"id": "less", "segment": "less"}
    )
    rules = named_rules((worth,))

    def silent(states, context, days, offsets):
        """Look each day; return what changed, and when."""
        told = []
        for day in days:
            outputs = advance(
                states, [b"c1"], "clv.clock/0", next(offsets), context,
                as_of=milliseconds(day + 0.5), due_only=True,
            )  # fmt: skip
            store(states, outputs)
            told += [json.loads(document)["data"] for _, document in outputs.segment_changes]
        return [(each["as_of"], each["dimension"], each["current"]) for each in told]

    low, high = (
        Context(Economics(margin=margin), PARAMETERS, rules, refresh=Refresh())
        for margin in (0.3, 0.5)
    )
    chains = []
    for first in (low, high):
        states, offsets = {}, count()
        store(states, process(states, "shop.orders/0", records, first, now=milliseconds(50)))
        silent(states, first, range(51, 120), offsets)
        chains.append(silent(states, low, range(120, 900), offsets))
    assert chains[0] == chains[1]
    assert [segment for _, _, segment in chains[0]] == ["less"]
