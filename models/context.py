"""What scoring depends on beside the events."""

from __future__ import annotations

from dataclasses import dataclass

from models.contracts.parameters import Parameters
from models.economics import Economics
from models.segments import DEFAULT_DIMENSIONS, Dimension


@dataclass(frozen=True, slots=True)
class Context:
    """The shop's decisions, the fitted parameters if there are any, and the rules of segments.

    erasure_key: secret under which erased customers are remembered, the same for ever.
    first_version: new customers begin above it, where former ones of the same id are lost.
    """

    economics: Economics
    parameters: Parameters | None = None
    dimensions: tuple[Dimension, ...] = DEFAULT_DIMENSIONS
    erasure_key: bytes = b""
    first_version: int = 0
