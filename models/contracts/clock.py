"""Ticks: records on `clv.clock`, one per partition, which say that time has passed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.events.fields import Time


class Tick(BaseModel):
    """Score all customers of the partition as of a time.

    parameters, rules: versions that came into force; a worker waits until it has received them.
    due: only look at those who are due by then; a worker says so to itself.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    as_of: Time
    parameters: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    rules: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    due: Literal[True] | None = None
