"""The documents that are published, as CloudEvents in structured JSON.

Plain dictionaries, encoded at once: a fifth of the time of building and dumping pydantic models.
`models.contracts.outputs` is their contract.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from models.aggregate.record import CustomerRecord
from models.aggregate.summary import Summary
from models.aggregate.windows import rolling_windows
from models.context import Context
from models.economics import from_units
from models.scores import Scores
from models.segments import Dimension

SOURCE = "/clv-streams"
CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=utf-8")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=1024)
def moment(milliseconds: int) -> datetime:
    """The moment of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _cloud_event(
    kind: str, identity: str, subject: str, time: datetime, data: dict[str, Any]
) -> bytes:
    return _encode(
        {
            "specversion": "1.0",
            "id": identity,
            "source": SOURCE,
            "type": kind,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def value_update(
    customer_id: str,
    record: CustomerRecord,
    summary: Summary,
    scores: Scores,
    row: int,
    context: Context,
) -> bytes:
    """The `clv.updated` event of one customer."""
    column = scores.columns
    config, parameters = context.economics, context.parameters
    as_of = moment(record.as_of)
    margin = summary.margin(config)
    data = {
        "customer_id": customer_id,
        "version": record.version,
        "as_of": as_of,
        "currency": config.currency,
        "model": (
            {"name": "simple-average", "version": ""}
            if parameters is None
            else {"name": parameters.model, "version": parameters.version}
        ),
        "statistics": {
            "frequency": summary.frequency,
            "recency": summary.last_day - summary.first_day,
            "T": int(column["T"][row]),
            "monetary_value": column["monetary_value"][row],
        },
        "p_alive": column["p_alive"][row],
        "realised": {
            "margin": from_units(margin),
            "cost_to_serve": from_units(summary.support_cost),
            "acquisition_cost": from_units(summary.acquisition_cost),
            "total": from_units(margin - summary.support_cost - summary.acquisition_cost),
        },
        "expected": {
            "orders": column["expected_orders"][row],
            "order_value": column["order_value"][row],
            "margin_per_order": column["margin_per_order"][row],
            "contacts": column["expected_contacts"][row],
            "cost_to_serve": column["expected_support_cost"][row],
            "total": column["expected"][row],
        },
        "clv": scores.clv[row],
        "levers": {
            "order_value": column["lever_orders"][row],
            "orders": column["lever_orders"][row],
            "acquisition_cost": column["lever_acquisition"][row],
            "margin": column["lever_margin"][row],
        },
        "segments": record.segments,
        "totals": {
            "orders": summary.orders,
            "purchase_days": summary.purchase_days,
            "gross": from_units(summary.gross),
            "refunds": summary.refunds,
            "refunded": from_units(summary.refunded),
            "contacts": summary.contacts,
            "complaints": summary.complaints,
        },
        "windows": rolling_windows(record.aggregate, config.day(record.as_of), config),
    }
    identity = f"{customer_id}/{record.version}"
    return _cloud_event("clv.updated", identity, customer_id, as_of, data)


def segment_change(
    customer_id: str,
    record: CustomerRecord,
    version: int,
    as_of: int,
    dimension: Dimension,
    scores: Scores,
    row: int,
) -> bytes:
    """The `clv.segment-changed` event of one customer and dimension."""
    current = scores.segment(dimension, row)
    time = moment(as_of)
    data = {
        "customer_id": customer_id,
        "version": version,
        "dimension": dimension.name,
        "previous": record.segments.get(dimension.name),
        "current": current,
        "reason": {"rule": current, "values": scores.evidence(dimension, row)},
        "clv_before": record.clv,
        "clv_after": scores.clv[row],
        "as_of": time,
    }
    identity = f"{customer_id}/{version}/{dimension.name}"
    return _cloud_event("clv.segment-changed", identity, customer_id, time, data)
