"""Ticks: records on `clv.clock`, one per partition, which say that time has passed."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.events.fields import Time


class Tick(BaseModel):
    """Score all customers of the partition as of a time.

    parameters: the version to use; a worker waits until it has received that version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    as_of: Time
    parameters: Annotated[str, Field(min_length=1, max_length=100)] | None = None
