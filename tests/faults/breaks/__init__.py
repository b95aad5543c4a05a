"""What can go wrong, by name: `BREAKS`."""

from tests.faults.breaks import brokers, clients, disks, nothing, redis, workers
from tests.faults.breaks.kinds import Break

BREAKS: dict[str, Break] = {
    kind.name: kind
    for family in (nothing, workers, brokers, redis, clients, disks)
    for kind in family.KINDS
}

__all__ = ["BREAKS", "Break"]
