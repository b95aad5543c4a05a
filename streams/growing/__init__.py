"""`clv partitions grow`: more partitions for a service that has customers."""

from streams.growing.group import Held, group_held
from streams.growing.growth import Grown, grow
from streams.growing.moving import Growth
from streams.growing.stage import GrowthRefused, Stage, Standing
from streams.growing.survey import Findings, look

__all__ = [
    "Findings",
    "Grown",
    "Growth",
    "GrowthRefused",
    "Held",
    "Stage",
    "Standing",
    "group_held",
    "grow",
    "look",
]
