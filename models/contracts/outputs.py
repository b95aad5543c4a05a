"""What the service publishes: value updates and segment changes.

The stream writes these documents as plain dictionaries for speed; these models are their contract,
from which JSON Schema is made and against which every document is checked in the tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelName(_Output):
    """The model that made the estimates, and the version of its parameters."""

    name: str
    version: str
    """"prior" until the shop has parameters of its own."""


class Statistics(_Output):
    """The sufficient statistics, by calendar day in the shop's time zone.

    frequency: repeat purchases (purchase days after the first); recency (t_x): days from the first
    to the last purchase; T: days from the first purchase to the as-of time; monetary_value: mean
    gross of the repeat purchase days.
    """

    frequency: Count
    recency: Count
    T: Count
    monetary_value: Finite


class Realised(_Output):
    """What the customer brought and cost so far; exact to the ten-thousandth."""

    margin: Finite
    cost_to_serve: Finite
    acquisition_cost: Finite
    total: Finite


class Expected(_Output):
    """What is expected over the horizon, discounted.

    A purchase is a calendar day with an order. low, high: the 10th and the 90th percentile.
    margin_per_purchase: net of refunds.
    """

    purchases: Finite
    purchases_low: Finite
    purchases_high: Finite
    purchase_value: Finite
    margin_per_purchase: Finite
    contacts: Finite
    cost_to_serve: Finite
    total: Finite
    total_low: Finite
    total_high: Finite


class Levers(_Output):
    """What 10 % more of each would add to the expected value; what is past cannot be changed."""

    purchase_value: Finite
    purchases: Finite
    margin: Finite


class Totals(_Output):
    """Sums since the first event."""

    orders: Count
    purchase_days: Count
    gross: Finite
    refunds: Count
    refunded: Finite
    contacts: Count
    complaints: Count


class RollingWindow(_Output):
    """What happened in the last days of a window."""

    orders: Count
    revenue: Finite
    margin: Finite
    contacts: Count


class Moved(_Output):
    """What has moved the value since it was published last; the parts add up to the difference.

    event: what happened since. time: what passed of it without an event. model: other parameters.
    rules_or_rates: settings that are others than when it was published last: rates, margins, costs.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    from_: Finite = Field(alias="from")
    to: Finite
    event: Finite
    time: Finite
    model: Finite
    rules_or_rates: Finite
    merge: Finite


class ValueUpdate(_Output):
    """The current value of one customer: `data` of `clv.updated`."""

    customer_id: str
    version: Count
    as_of: AwareDatetime
    currency: str
    model: ModelName
    statistics: Statistics
    p_alive: Share | None
    p_purchase: Share | None
    """Probability of a purchase within 365 days."""
    realised: Realised
    expected: Expected
    clv: Finite
    levers: Levers
    segments: dict[str, str]
    totals: Totals
    windows: dict[str, RollingWindow]
    moved: Moved | None = None
    """Null if there is no earlier value to compare with: of a new customer, in history that is
    loaded, and after an upgrade. Left out unless it is turned on."""
    backfill: bool = False
    """Whether the last event was a backfilled one: segments are those published before it."""


class ReasonCondition(_Output):
    """A condition that decided, as it was met.

    quantile: the name of the bound, if it is a quantile of the population. ends: the id of the
    rule that this ends, if it is the reverse of what that rule asks for.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    feature: str
    value: Finite | str | None
    is_: Literal["at least", "at most", "below", "above", "one of", "none of"] = Field(alias="is")
    bound: Finite | tuple[str, ...] | None
    quantile: str | None = None
    ends: str | None = None


class Reason(_Output):
    """Why a segment changed.

    rule: the id of the rule that decided; null if the dimension is no longer there. text: a
    sentence. conditions: those that decided; of a rule that holds for all others, what ended the
    rule before. values: of all features that were looked at, up to the rule that matched.
    """

    rule: str | None
    text: str
    conditions: tuple[ReasonCondition, ...]
    values: dict[str, float | str | None]


class SegmentChange(_Output):
    """One change of one dimension: `data` of `clv.segment-changed`.

    current: null if the rules have the dimension no more. cause: what it comes from. rules, model:
    the versions that decided; rules are empty in what an earlier version stored.
    """

    customer_id: str
    version: Count
    dimension: str
    previous: str | None
    current: str | None
    cause: Literal["event", "time", "model", "rules", "merge"]
    reason: Reason
    rules: str
    model: ModelName
    clv_before: Finite | None
    clv_after: Finite
    as_of: AwareDatetime


class CustomerRemoval(_Output):
    """A customer who is no longer there: `data` of `clv.customer-removed`.

    reason: erased, or merged into the customer that `merged_into` names. Their former values and
    segments no longer hold; a subscriber takes them out of its own lists too.
    """

    customer_id: str
    version: Count
    reason: Literal["erased", "merged"]
    merged_into: str | None
    as_of: AwareDatetime


class _Envelope(_Output):
    specversion: Literal["1.0"]
    id: str
    source: Literal["/clv-streams"]
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"]


class ValueUpdated(_Envelope):
    """CloudEvent on `clv.updates`, keyed by customer id."""

    type: Literal["clv.updated"]
    data: ValueUpdate


class SegmentChanged(_Envelope):
    """CloudEvent on `clv.segment-changes`, keyed by customer id; `id` is deterministic."""

    type: Literal["clv.segment-changed"]
    data: SegmentChange


class CustomerRemoved(_Envelope):
    """CloudEvent on `clv.segment-changes`, keyed by the id of the customer who is gone."""

    type: Literal["clv.customer-removed"]
    data: CustomerRemoval


OUTPUTS: Final[dict[str, type[BaseModel]]] = {
    "clv.updated": ValueUpdated,
    "clv.segment-changed": SegmentChanged,
    "clv.customer-removed": CustomerRemoved,
}
"""The document of each type that the service publishes, by its CloudEvents `type`."""


def output_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of each document that the service publishes, by type.

    They refuse fields that this version does not write; later versions may write more.
    """
    return {name: model.model_json_schema() for name, model in OUTPUTS.items()}
