"""Published documents: CloudEvents in structured JSON.

They are encoded from structs, in a fraction of the time that pydantic models take; the order of the
fields is that of the JSON. `models.contracts.outputs` is their contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from models.aggregate.record import Change, CustomerRecord, Evidence, Moved, OutboxEntry
from models.aggregate.summary import Summary
from models.aggregate.windows import Window, rolling_windows
from models.context import Context, Interpretation
from models.contracts.parameters import Parameters
from models.economics import from_units
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


class _Model(msgspec.Struct, gc=False):
    name: str
    version: str


class _Statistics(msgspec.Struct, gc=False):
    frequency: int
    recency: int
    T: int
    monetary_value: float


class _Realised(msgspec.Struct, gc=False):
    margin: float
    cost_to_serve: float
    acquisition_cost: float
    total: float


class _Expected(msgspec.Struct, gc=False):
    purchases: float
    purchases_low: float
    purchases_high: float
    purchase_value: float
    margin_per_purchase: float
    contacts: float
    cost_to_serve: float
    total: float
    total_low: float
    total_high: float


class _Levers(msgspec.Struct, gc=False):
    purchase_value: float
    purchases: float
    margin: float


class _Totals(msgspec.Struct, gc=False):
    orders: int
    purchase_days: int
    gross: float
    refunds: int
    refunded: float
    contacts: int
    complaints: int


class _Moved(msgspec.Struct, gc=False, rename={"before": "from"}):
    before: float
    to: float
    event: float
    time: float
    model: float
    rules_or_rates: float
    merge: float


class _Update(msgspec.Struct):
    customer_id: str
    version: int
    as_of: datetime
    currency: str
    model: _Model
    statistics: _Statistics
    p_alive: float | None
    p_purchase: float | None
    realised: _Realised
    expected: _Expected
    clv: float
    levers: _Levers
    segments: dict[str, str]
    totals: _Totals
    windows: dict[str, Window]
    moved: _Moved | msgspec.UnsetType | None = msgspec.UNSET
    backfill: bool | msgspec.UnsetType = msgspec.UNSET


class _Change(msgspec.Struct):
    customer_id: str
    version: int
    dimension: str
    previous: str | None
    current: str | None
    cause: str
    reason: Any
    rules: str
    model: _Model
    clv_before: float | None
    clv_after: float | None
    as_of: datetime


class _Removal(msgspec.Struct):
    customer_id: str
    version: int
    reason: str
    merged_into: str | None
    as_of: datetime


class _Event(msgspec.Struct):
    """A CloudEvent."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    data: _Update | _Change | _Removal


def _document(
    kind: str, event_id: str, as_of: datetime, data: _Update | _Change | _Removal
) -> bytes:
    event = _Event("1.0", event_id, SOURCE, kind, data.customer_id, as_of, "application/json", data)
    return _encode(event)


def value_update(
    customer_id: str,
    record: CustomerRecord,
    summary: Summary,
    scored: tuple[Published, Parameters],
    context: Context,
) -> bytes:
    """Return the `clv.updated` event of one customer; scored: what came of which parameters."""
    published, model = scored
    config = context.economics
    as_of = moment(record.told_at)
    margin = summary.margin(config)
    data = _Update(
        customer_id,
        record.version,
        as_of,
        config.currency,
        _Model(model.model, model.version),
        _Statistics(
            summary.frequency,
            summary.last_day - summary.first_day,
            int(published.T),
            published.monetary_value,
        ),
        published.p_alive,
        published.p_purchase,
        _Realised(
            from_units(margin),
            from_units(summary.support_cost),
            from_units(summary.acquisition_cost),
            from_units(margin - summary.support_cost - summary.acquisition_cost),
        ),
        _Expected(
            published.expected_purchases,
            published.purchases_low,
            published.purchases_high,
            published.purchase_value,
            published.margin_per_purchase,
            published.expected_contacts,
            published.expected_support_cost,
            published.expected,
            published.expected_low,
            published.expected_high,
        ),
        published.clv,
        _Levers(published.lever_value, published.lever_purchases, published.lever_margin),
        record.segments,
        _Totals(
            summary.orders,
            summary.purchase_days,
            from_units(summary.gross),
            summary.refunds,
            from_units(summary.refunded),
            summary.contacts,
            summary.complaints,
        ),
        rolling_windows(record.aggregate, config.day(record.told_at), config, summary),
    )
    if context.explained:
        data.moved = _moved(record.moved, published.clv)
    if record.backfill:
        data.backfill = True
    silent = record.silent or record.refreshed > 0
    number = _number(record.version, record.told_at, silent=silent)
    return _document("clv.updated", f"{customer_id}/{number}", as_of, data)


def _moved(parts: tuple[float, ...], to: float) -> _Moved | None:
    """Return what has moved a value to what it is now; parts: as stored."""
    if not parts:
        return None
    of = Moved(*parts)
    event = to - of.before - of.time - of.model - of.settings - of.merge
    # Of nothing that happened, rounding would leave a trace. 0.0 is added to make 0.0 of -0.0.
    event = round(event, 9) + 0.0
    return _Moved(of.before, to, event, of.time, of.model, of.settings, of.merge)


def _number(version: int, as_of: int, *, silent: bool) -> str:
    """Return what tells the scores of a customer apart: in silence the version does not grow."""
    return f"{version}.{as_of}" if silent else str(version)


def entry_documents(
    customer_id: str, entry: OutboxEntry, evidence: Iterable[Evidence], context: Interpretation
) -> list[bytes]:
    """Return the events of an outbox entry: its segment changes, or the customer's removal."""
    if entry.removal:
        return [_customer_removed(customer_id, entry)]
    as_of, version = moment(entry.as_of), entry.version
    number = _number(version, entry.as_of, silent=entry.silent)
    rules = context.rules_at(entry.as_of, entry.rules)
    parameters = context.model_at(entry.as_of, entry.model)
    model = _Model(parameters.model, entry.model or parameters.version)
    return [
        _document(
            "clv.segment-changed",
            f"{customer_id}/{change.dimension}/{number}",
            as_of,
            _Change(
                customer_id,
                version,
                change.dimension,
                change.previous,
                change.current,
                entry.cause,
                _reason(change, values, rules, parameters),
                entry.rules,
                model,
                entry.before,
                entry.after,
                as_of,
            ),
        )
        for change, values in zip(entry.changes, evidence, strict=True)
    ]


def _reason(change: Change, values: Evidence, rules: Rules, model: Parameters) -> Any:
    """Return the reason of a change, encoded where another customer may have had the same."""
    dimension = rules.by_name.get(change.dimension)
    index = None if dimension is None else dimension.places.get(change.rule)
    if dimension is None or index is None:
        gone = change.current is None
        text = f"The rules have no dimension {change.dimension!r} any more." if gone else ""
        return {"rule": change.rule or None, "text": text, "conditions": [], "values": values}
    quantile, currency = model.quantile, model.currency
    if any(isinstance(each, float) and not each.is_integer() for each in values.values()):
        # Money and probabilities: nobody else has the same.
        return explain(dimension, index, change.previous, values, quantile, currency=currency)
    known = dimension.encoded_reasons
    case = (index, change.previous, model.version, *values.items())
    if case not in known:
        if len(known) >= _MOST_REASONS:
            known.clear()
        reason = explain(dimension, index, change.previous, values, quantile, currency=currency)
        known[case] = msgspec.Raw(_encode(reason))
    return known[case]


def _customer_removed(customer_id: str, entry: OutboxEntry) -> bytes:
    as_of = moment(entry.as_of)
    data = _Removal(customer_id, entry.version, entry.removal, entry.into or None, as_of)
    return _document("clv.customer-removed", f"{customer_id}/removed/{entry.version}", as_of, data)
