"""The passing of time, as a record on `clv.clock`: one for every partition."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.contracts.fields import Time


class Tick(BaseModel):
    """All customers of the partition are to be scored as of a time.

    `parameters`: the version to do it with; a worker waits until that version has reached it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    as_of: Time
    parameters: Annotated[str, Field(min_length=1, max_length=100)] | None = None
