"""A million malformed and hostile records stop nothing and lose nothing."""

from itertools import islice

import pytest

from models.aggregate.record import customers
from models.context import Context
from models.contracts.dead_letters import dead_letter_headers, reason_of
from models.economics import Economics
from models.engine import process

from .events import KafkaRecord, milliseconds
from .hostile import hostile_records
from .parameters import PARAMETERS

SIZES = [(20_000, 1_000), pytest.param(1_000_000, 5_000, marks=pytest.mark.slow)]
"""How many records, and how many of them in a batch."""

NOW = milliseconds(100_000)


@pytest.mark.heavy
@pytest.mark.parametrize(("count", "batch"), SIZES)
def test_a_million_hostile_records_are_each_accounted_for(count, batch):
    context = Context(Economics(currency="EUR"), PARAMETERS)
    states = {}
    total = accepted = refused = 0
    fuzzer = hostile_records(11)
    for number in range(count // batch):
        records = [
            KafkaRecord(number * batch + at, NOW, key, value, tuple(headers))
            for at, (key, value, headers) in enumerate(islice(fuzzer, batch))
        ]
        outputs = process(states, "shop.orders/0", records, context, now=NOW)
        assert outputs.taken == len(records)
        for key, stored in outputs.records.items():
            if stored is None:
                states.pop(key, None)
            else:
                states[key] = stored
        accounted = (
            outputs.accepted
            + outputs.duplicates
            + outputs.replayed
            + outputs.forgotten
            + len(outputs.rerouted)
            + len(outputs.dead_letters)
        )
        assert accounted == len(records)
        for letter in outputs.dead_letters:
            assert letter.record in records[letter.record.offset - number * batch :][:1]
        letter = outputs.dead_letters[0]
        headers = dead_letter_headers(letter.refused, letter.record.headers, "shop.orders", 0, 1)
        assert headers[: len(letter.record.headers)] == list(letter.record.headers)
        assert reason_of(headers) == letter.refused.reason.value
        total += len(records)
        accepted += outputs.accepted
        refused += len(outputs.dead_letters)
    assert total == count
    assert refused > count // 2
    assert accepted > count // 1_000
    assert all(record.version for _, record in customers(states))
