"""What can go wrong, by name: `BREAKS`."""

from tests.faults.breaks import (
    backlogs,
    brokers,
    clients,
    disks,
    hostile,
    nothing,
    redis,
    silences,
    workers,
)
from tests.faults.breaks.kinds import Break

BREAKS: dict[str, Break] = {
    kind.name: kind
    for family in (nothing, hostile, backlogs, workers, brokers, redis, clients, disks, silences)
    for kind in family.KINDS
}

__all__ = ["BREAKS", "Break"]
