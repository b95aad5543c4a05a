"""Published documents: CloudEvents in structured JSON.

They are encoded from plain dictionaries, in a fifth of the time that pydantic models take.
`models.contracts.outputs` is their contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from models.aggregate.record import Change, CustomerRecord, Evidence, OutboxEntry
from models.aggregate.summary import Summary
from models.aggregate.windows import rolling_windows
from models.context import Interpretation
from models.contracts.parameters import Parameters
from models.economics import Economics, from_units
from models.scores import Published
from models.segments import Rules, explain

SOURCE = "/clv-streams"
CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=utf-8")

_MOST_REASONS = 2_000
"""Encoded reasons that each dimension keeps: those of new customers are mostly the same."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=1024)
def moment(milliseconds: int) -> datetime:
    """Return the datetime of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def value_update(
    customer_id: str,
    record: CustomerRecord,
    summary: Summary,
    scored: tuple[Published, Parameters],
    config: Economics,
) -> bytes:
    """Return the `clv.updated` event of one customer; scored: what came of which parameters."""
    published, model = scored
    as_of = moment(record.as_of)
    margin = summary.margin(config)
    data = {
        "customer_id": customer_id,
        "version": record.version,
        "as_of": as_of,
        "currency": config.currency,
        "model": {"name": model.model, "version": model.version},
        "statistics": {
            "frequency": summary.frequency,
            "recency": summary.last_day - summary.first_day,
            "T": int(published.T),
            "monetary_value": published.monetary_value,
        },
        "p_alive": published.p_alive,
        "p_purchase": published.p_purchase,
        "realised": {
            "margin": from_units(margin),
            "cost_to_serve": from_units(summary.support_cost),
            "acquisition_cost": from_units(summary.acquisition_cost),
            "total": from_units(margin - summary.support_cost - summary.acquisition_cost),
        },
        "expected": {
            "purchases": published.expected_purchases,
            "purchases_low": published.purchases_low,
            "purchases_high": published.purchases_high,
            "purchase_value": published.purchase_value,
            "margin_per_purchase": published.margin_per_purchase,
            "contacts": published.expected_contacts,
            "cost_to_serve": published.expected_support_cost,
            "total": published.expected,
            "total_low": published.expected_low,
            "total_high": published.expected_high,
        },
        "clv": published.clv,
        "levers": {
            "purchase_value": published.lever_value,
            "purchases": published.lever_purchases,
            "margin": published.lever_margin,
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
    if record.backfill:
        data["backfill"] = True
    return _encode(
        {
            "specversion": "1.0",
            "id": f"{customer_id}/{record.version}",
            "source": SOURCE,
            "type": "clv.updated",
            "subject": customer_id,
            "time": as_of,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def entry_documents(
    customer_id: str, entry: OutboxEntry, evidence: Iterable[Evidence], context: Interpretation
) -> list[bytes]:
    """Return the events of an outbox entry: its segment changes, or the customer's removal."""
    if entry.removal:
        return [_customer_removed(customer_id, entry)]
    as_of = moment(entry.as_of)
    rules = context.rules_at(entry.as_of, entry.rules)
    model = context.model_at(entry.as_of, entry.model)
    return [
        _encode(
            {
                "specversion": "1.0",
                "id": f"{customer_id}/{change.dimension}/{entry.version}",
                "source": SOURCE,
                "type": "clv.segment-changed",
                "subject": customer_id,
                "time": as_of,
                "datacontenttype": "application/json",
                "data": {
                    "customer_id": customer_id,
                    "version": entry.version,
                    "dimension": change.dimension,
                    "previous": change.previous,
                    "current": change.current,
                    "cause": entry.cause,
                    "reason": _reason(change, values, rules, model),
                    "rules": entry.rules,
                    "model": {"name": model.model, "version": entry.model or model.version},
                    "clv_before": entry.before,
                    "clv_after": entry.after,
                    "as_of": as_of,
                },
            }
        )
        for change, values in zip(entry.changes, evidence, strict=True)
    ]


def _reason(change: Change, values: Evidence, rules: Rules, model: Parameters) -> Any:
    """Return the reason of a change, encoded where another customer may have had the same."""
    dimension = rules.by_name.get(change.dimension)
    index = None if dimension is None else dimension.places.get(change.rule)
    if dimension is not None and index is not None:
        case = (index, change.previous, model.version, *values.items())
        known = dimension.encoded_reasons
        encoded = known.get(case)
        if encoded is None:
            if len(known) >= _MOST_REASONS:
                known.clear()
            reason = explain(dimension, index, change.previous, values, model.quantile)
            encoded = known[case] = msgspec.Raw(_encode(reason))
        return encoded
    gone = change.current is None
    text = f"The rules have no dimension {change.dimension!r} any more." if gone else ""
    return {"rule": change.rule or None, "text": text, "conditions": [], "values": values}


def _customer_removed(customer_id: str, entry: OutboxEntry) -> bytes:
    as_of = moment(entry.as_of)
    return _encode(
        {
            "specversion": "1.0",
            "id": f"{customer_id}/removed/{entry.version}",
            "source": SOURCE,
            "type": "clv.customer-removed",
            "subject": customer_id,
            "time": as_of,
            "datacontenttype": "application/json",
            "data": {
                "customer_id": customer_id,
                "version": entry.version,
                "reason": entry.removal,
                "merged_into": entry.into or None,
                "as_of": as_of,
            },
        }
    )
