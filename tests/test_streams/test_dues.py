"""Who is due in a worker's partitions."""

from models.context import Context
from models.economics import Economics
from models.timeline import NEVER
from streams.dues import Dues


async def test_those_who_are_due_are_counted_in_all_partitions():
    dues, context = Dues(), Context(Economics())
    for partition, moments in enumerate([{b"a": 5, b"b": 9}, {b"c": 5}]):
        await dues.build(partition, {}, context, lambda _origin, _offset: False)
        dues.note(partition, moments)
    assert [dues.count(moment) for moment in (4, 5, 8, 9)] == [0, 2, 2, 3]
    dues.note(0, {b"a": NEVER})
    assert dues.count(9) == 2
    dues.forget()
    assert dues.count(9) == 0
