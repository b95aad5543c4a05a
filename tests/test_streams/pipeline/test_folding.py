"""Which batches are folded together."""

from itertools import count

from models.aggregate.record import decode_record
from models.engine import process, process_together
from streams import folding as folding_module
from streams.kafka.partitions import home_partition

from .support import orders, turns


def at_home(partition, number=0):
    """The name of a customer whose home is one of three partitions."""
    names = (f"{number}-{each}" for each in count())
    return next(name for name in names if home_partition(name.encode(), 3) == partition)


def orders_of(partition, offset, *numbers):
    return orders(offset, *(at_home(partition, number) for number in numbers), partition=partition)


class Calls:
    """Counts how many batches each call of the engine folds."""

    def __init__(self, running, monkeypatch):
        running.pipeline.partitions = 3
        self.sizes = []
        monkeypatch.setattr(folding_module, "process_together", self.together)
        monkeypatch.setattr(folding_module, "process", self.alone)

    def together(self, intakes, **more):
        self.sizes.append(len(intakes))
        return process_together(intakes, **more)

    def alone(self, *args, **more):
        self.sizes.append(1)
        return process(*args, **more)


async def fold(running, *events):
    for event in events:
        await running.folding.fold(event)
    await turns(200)
    assert not running.crashes
    assert all(event.acked for event in events)


async def test_batches_of_other_partitions_that_wait_are_folded_together(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    await fold(running, orders_of(0, 0, 1), orders_of(1, 0, 1), orders_of(2, 0, 1))
    assert calls.sizes == [3]
    updated = {key.decode() for topic, key, _ in running.broker.sent if topic == "clv.updates"}
    assert updated == {at_home(0, 1), at_home(1, 1), at_home(2, 1)}
    assert running.pipeline.counts.accepted == 3


async def test_batches_of_a_partition_are_folded_one_after_the_other(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    await fold(
        running, orders_of(0, 0, 1), orders_of(0, 1, 1), orders_of(1, 0, 1), orders_of(0, 2, 1)
    )
    assert calls.sizes == [2, 1, 1]
    assert decode_record(running.pipeline.table.states[at_home(0, 1).encode()]).version == 3


async def test_large_batches_are_folded_alone(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    monkeypatch.setattr(folding_module, "TOGETHER", 3)
    await fold(running, orders_of(0, 0, 1, 2), orders_of(1, 0, 1), orders_of(2, 0, 1, 2, 3, 4))
    assert calls.sizes == [2, 1]


async def test_if_one_makes_the_engine_raise_all_are_folded_one_by_one(running, monkeypatch):
    """So that it is known which it is, and the others go on."""
    calls = Calls(running, monkeypatch)

    def raises(*_args, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr(folding_module, "process_together", raises)
    await fold(running, orders_of(0, 0, 1), orders_of(1, 0, 1))
    assert calls.sizes == [1, 1]
    assert running.pipeline.counts.accepted == 2
