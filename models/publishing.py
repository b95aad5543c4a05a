"""Turn the steps of a batch's customers into outputs: records, value updates, outbox entries."""

from __future__ import annotations

from collections.abc import Iterable

from models.aggregate.record import Forgotten, encode_record, forgotten_key
from models.catching_up import catch_up, due_of, next_due, quiet_until
from models.customers import Batch, Customer
from models.documents import entry_documents, value_update
from models.identity import with_version
from models.outbox import WithEvidence, changes_entry, outbox, removal_entry, with_evidence
from models.outputs import CurrentValue, Removed
from models.scores import RemovalStep, Resend, Scores
from models.silence import Silence


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
        quiet = quiet_until(batch, touched)
        looked = catch_up(batch, touched, quiet)
        for customer in touched:
            _publish(batch, customer, scores, looked, due_of(customer, quiet))


def _publish(batch: Batch, customer: Customer, scores: Scores, looked: Scores, due: int) -> None:
    """Publish what a customer's steps come to.

    looked: the scores of looks into silences. due: see `due_of`.
    """
    record, outputs, day = customer.record, batch.outputs, batch.context.economics.day
    pending = list(with_evidence(customer.pending, customer.stored_row, scores))
    fresh: list[WithEvidence] = []
    told, row, as_of, last = False, 0, 0, scores
    for step in customer.steps:
        if isinstance(step, Resend):
            told, row, last = True, step.row or 0, scores
            _publish_entries(batch, customer, pending)
        elif isinstance(step, RemovalStep):
            told = True
            fresh.append(_remove(batch, customer, step, as_of))
        else:
            silent = isinstance(step, Silence)
            of = looked if silent else scores
            for scored in step.looks if isinstance(step, Silence) else (step,):
                noted = changes_entry(record, batch.origin, scored, of, day)
                if noted is not None:
                    fresh.append(noted)
                if noted is not None or not silent:
                    told, row, as_of, last = True, scored.row, scored.as_of, of
    _publish_entries(batch, customer, fresh)
    if customer.kept or not all(isinstance(step, Resend) for step in customer.steps):
        record.outbox = outbox([*pending, *fresh], record.version, record.as_of)
        if due:
            _set_due(batch, customer, row, due)
        _store(batch, customer)
    if told and customer.present:
        outputs.updates.append(_update(batch, customer, last, row))
    elif told:
        outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))


def _remove(batch: Batch, customer: Customer, step: RemovalStep, told: int) -> WithEvidence:
    """Return the entry of a removal; told: as of when the customer was told of before."""
    record = customer.record
    as_of = step.as_of if step.reason == "erased" else max(told, step.as_of)
    entry = removal_entry(record, batch.origin, step, as_of)
    if step.handover:
        handover = with_version(step.handover, record.version, as_of)
        batch.outputs.handovers.append((step.into.encode(), handover))
    return entry


def _set_due(batch: Batch, customer: Customer, row: int, due: int) -> None:
    record, economics = customer.record, batch.context.economics
    known = record.due = next_due(batch, customer, row, due)
    batch.outputs.dues[customer.key] = known or economics.day_begins(
        economics.day(record.as_of) + 1
    )


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
