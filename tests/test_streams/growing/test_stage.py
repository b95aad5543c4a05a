"""How far a growth has come, from what the topics and the bases say: without a broker."""

import pytest

from streams.basis.record import Basis, Mark
from streams.growing.moving import Growth
from streams.growing.stage import GrowthRefused, Stage, heirs_basis, standing


def basis(partitions, **more):
    given = {"topics": {"shop.orders": "id"}, "generations": {}} | more
    return Basis(partitions=partitions, currency="EUR", timezone="Europe/Berlin", **given)


def counts(*numbers):
    return {f"topic-{place}": number for place, number in enumerate(numbers)}


def bases(*numbers):
    return {place: basis(number) for place, number in enumerate(numbers) if number}


@pytest.mark.parametrize(
    ("counted", "said", "stage"),
    [
        (counts(4, 4), bases(4, 4, 4, 4), Stage.BEGIN),
        (counts(4, 4), bases(0, 4), Stage.BEGIN),
        (counts(4, 4), {}, Stage.BEGIN),
        (counts(12, 4), bases(4, 4, 4, 4), Stage.UNFINISHED),
        (counts(12, 4), {}, Stage.UNFINISHED),
        (counts(12, 12), bases(*[4] * 12), Stage.UNFINISHED),
        (counts(12, 12), bases(4, 4, 4, 4), Stage.UNFINISHED),
        (counts(12, 12), bases(*[4] * 11, 12), Stage.MOVED),
    ],
)
def test_the_stage_follows_from_counts_and_bases(counted, said, stage):
    assert standing(12, counted, said, set(said)) == (Growth(4, 12), stage)


@pytest.mark.parametrize(
    ("wanted", "counted", "said", "why"),
    [
        (4, counts(4, 4), bases(4), "4 partitions already"),
        (3, counts(4, 4), bases(4), "3 are not more"),
        (12, counts(12, 12), bases(*[12] * 12), "12 partitions already"),
        (10_001, counts(4, 4), bases(4), "at most 10,000"),
        (16, counts(12, 4), bases(4), "run `clv partitions grow 12` first"),
        (16, counts(12, 12), bases(4), "run `clv partitions grow 12` first"),
        (16, counts(12, 8, 4), bases(4), "do not fit together"),
        (16, counts(4, 4), bases(12), "do not fit together"),
    ],
)
def test_what_cannot_grow_is_refused_with_the_reason(wanted, counted, said, why):
    with pytest.raises(GrowthRefused, match=why):
        standing(wanted, counted, said, set(said))


def test_customers_of_partitions_without_a_basis_are_refused():
    with pytest.raises(GrowthRefused, match="partitions 2, 3 hold customers"):
        standing(8, counts(4, 4), bases(4, 4), {0, 2, 3})


def test_a_partition_without_a_basis_inherits_what_holds_everywhere():
    mark = Mark(7, 1, b"digest")
    one = basis(
        4, first_version=3, marks={"shop.orders/0": mark}, generations={"shop.orders/0": 1},
        committed={"shop.orders/0": 5},
    )  # fmt: skip
    found = heirs_basis({0: one, 1: basis(4, first_version=9)}, 4)
    assert found == basis(4, first_version=9)
    assert heirs_basis({}, 4) is None
