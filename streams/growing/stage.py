"""How far a growth has come: pure, from the topics' partitions and what the bases say."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from models.errors import ClvError
from streams.basis.record import Basis
from streams.growing.moving import Growth

MOST_PARTITIONS = 10_000


class GrowthRefused(ClvError):
    """The partitions cannot grow now; the text says why, and what to do."""


class Stage(Enum):
    """begin: nothing was done. unfinished: customers may have moved. moved: all have."""

    BEGIN = "begin"
    UNFINISHED = "unfinished"
    MOVED = "moved"


class Standing(NamedTuple):
    """How far a growth has come."""

    growth: Growth
    stage: Stage


def standing(
    wanted: int, counts: Mapping[str, int], bases: Mapping[int, Basis], stateful: set[int]
) -> Standing:
    """How far the growth to so many partitions has come.

    counts: of the topics that grow together. bases: of the changelog's partitions that have one.
    stateful: the partitions that hold customers. Errors: GrowthRefused if the growth cannot begin,
    or another one was begun.
    """
    if wanted > MOST_PARTITIONS:
        raise GrowthRefused(f"{wanted:,} partitions are too many; at most {MOST_PARTITIONS:,}")
    if unknown := ", ".join(map(str, sorted(stateful - bases.keys()))):
        raise GrowthRefused(
            f"partitions {unknown} hold customers, and do not say for how many partitions "
            "they were stored, as an earlier version left them: start the workers of this version "
            "once, stop them with SIGTERM, and run this again"
        )
    largest = max(counts.values())
    said = {basis.partitions for basis in bases.values()} or {min(counts.values())}
    known = said | set(counts.values())
    if len(known) == 1:
        if wanted <= largest:
            raise GrowthRefused(
                f"there are {largest} partitions already: {wanted} are not more, and Kafka takes "
                "none away"
            )
        return Standing(Growth(largest, wanted), Stage.BEGIN)
    if len(known) != 2 or max(known) != largest or min(counts.values()) < min(said):
        topics = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        stored = ", ".join(map(str, sorted(said)))
        raise GrowthRefused(
            f"the partitions do not fit together: the topics have {topics}; the customers were "
            f"stored for {stored}. No growth that was stopped leaves this: restore "
            "the topics, or use a new CLV_APP_ID"
        )
    growth = Growth(min(known), largest)
    if wanted != growth.new:
        raise GrowthRefused(
            f"a growth from {growth.old} to {growth.new} partitions was begun and is not finished: "
            f"run `clv partitions grow {growth.new}` first"
        )
    # The last step of all, and the only one that writes the new count into a basis.
    return Standing(growth, Stage.MOVED if growth.new in said else Stage.UNFINISHED)


def heirs_basis(bases: Mapping[int, Basis], partitions: int) -> Basis | None:
    """The basis of a partition that had none; None where there is no state at all."""
    if not bases:
        return None
    newest = bases[min(bases)]
    return msgspec.structs.replace(
        newest,
        partitions=partitions,
        generations={},
        first_version=max(basis.first_version for basis in bases.values()),
        marks={},
        committed={},
        accepted=[],
        first={},
    )
