"""The size of a record is what the record builder of a Kafka client makes of it."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.sizes import record_size

contents = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from([b"x" * size for size in (62, 63, 64, 65, 8_191, 8_192, 1_048_575)])
)
# Names that a client can encode: lone surrogates are none.
names = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(["ä" * 32, "😀" * 16])
headers = st.lists(st.tuples(names, contents), max_size=6) | st.sampled_from(
    [[("", None)] * count for count in (63, 64, 8_191, 8_192, 20_000)]
)


def built(key, value, headers) -> int:
    batch = BatchBuilder(16_384, 0)
    assert batch.append(timestamp=0, key=key, value=value, headers=headers) is not None
    batch.close()
    return len(batch._build())


@pytest.mark.heavy
@settings(deadline=None)
@given(key=contents, value=contents, headers=headers)
@example(key=None, value=None, headers=[])
def test_a_record_has_the_size_that_it_has_when_it_is_built(key, value, headers):
    assert record_size(key, value, headers) == built(key, value, headers)


@pytest.mark.parametrize("power", range(6, 22))
def test_a_length_takes_a_byte_more_at_each_seven_bits(power):
    for length in (2**power - 1, 2**power):
        assert record_size(None, b"x" * length, []) == built(None, b"x" * length, [])
