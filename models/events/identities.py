"""`customer.merged` and `customer.erased`: the engine handles both, see `models.identities`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from models.events.fields import EventData, Id, Time
from models.events.kinds import IDENTITIES, EventType, register


class CustomerMerged(EventData):
    """Two identities are one person: `customer_id` stays, `merged_from` goes."""

    time_field: ClassVar[str] = "merged_at"

    customer_id: Id
    merged_from: Id
    merged_at: Time

    @model_validator(mode="after")
    def _joins_two(self) -> Self:
        if self.merged_from == self.customer_id:
            raise PydanticCustomError(
                "merged_with_itself",
                "another customer than customer_id",
                {"field": "merged_from"},
            )
        return self


class CustomerErased(EventData):
    """A customer asked to be forgotten."""

    time_field: ClassVar[str] = "erased_at"

    customer_id: Id
    erased_at: Time


register(
    EventType("customer.merged", CustomerMerged, IDENTITIES),
    EventType("customer.erased", CustomerErased, IDENTITIES),
)
