"""Turn the steps of a batch's customers into outputs: records, value updates, outbox entries."""

from __future__ import annotations

from collections.abc import Iterable

from models.aggregate.record import Forgotten, encode_record, forgotten_key
from models.customers import Batch, Customer
from models.documents import entry_documents, value_update
from models.outbox import WithEvidence, changes_entry, outbox, removal_entry, with_evidence
from models.outputs import CurrentValue, Removed
from models.scores import Evaluation, RemovalStep, Resend, Scores


def finish(batch: Batch) -> None:
    """Score all rows of a batch at once, and fill its `outputs`."""
    touched: list[Customer] = []
    for customer in batch.customers.values():
        if customer.steps:
            touched.append(customer)
        elif customer.kept:
            batch.store(customer)
    if touched:
        scores = batch.rows.scores()
        for customer in touched:
            _publish(batch, customer, scores)


def _publish(batch: Batch, customer: Customer, scores: Scores) -> None:
    record, outputs, day = customer.record, batch.outputs, batch.context.economics.day
    pending = list(with_evidence(customer.pending, customer.stored_row, scores))
    fresh: list[WithEvidence] = []
    row = 0
    for step in customer.steps:
        if isinstance(step, Evaluation):
            row, record.backfill = step.row, step.backfill
            if not step.backfill:
                noted = changes_entry(record, batch.origin, step, scores, day)
                if noted is not None:
                    fresh.append(noted)
        elif isinstance(step, RemovalStep):
            fresh.append(removal_entry(record, batch.origin, step))
        else:
            row = step.row or 0
            _publish_entries(batch, customer, pending)
    _publish_entries(batch, customer, fresh)
    if customer.kept or not all(isinstance(step, Resend) for step in customer.steps):
        record.outbox = outbox([*pending, *fresh], record.version)
        _store(batch, customer)
    if customer.present:
        outputs.updates.append(_update(batch, customer, scores, row))
    else:
        outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))


def _publish_entries(batch: Batch, customer: Customer, entries: Iterable[WithEvidence]) -> None:
    for entry, evidence in entries:
        documents = entry_documents(customer.customer_id, entry, evidence, batch.context)
        batch.outputs.segment_changes.extend((customer.key, each) for each in documents)


def _update(batch: Batch, customer: Customer, scores: Scores, row: int) -> CurrentValue:
    record = customer.record
    return CurrentValue(
        customer.customer_id,
        customer.key,
        record.version,
        scores.clv[row],
        tuple(record.segments.items()),
        value_update(
            customer.customer_id,
            record,
            customer.summary,
            (scores.published[row], scores.models[row]),
            batch.context.economics,
        ),
    )


def _store(batch: Batch, customer: Customer) -> None:
    record, records = customer.record, batch.outputs.records
    if customer.present or record.into:
        batch.store(customer)
        return
    # Erased: only a fingerprint of the id stays. It is written first, in case of a crash between.
    left = Forgotten(record.erased_at, record.version, record.applied, record.outbox)
    records[forgotten_key(customer.key, batch.context.erasure_key)] = encode_record(left)
    records[customer.key] = None
