"""Turn the steps of a batch's customers into outputs: records, value updates, outbox entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.aggregate.record import Forgotten, encode_record, forgotten_key
from models.catching_up import bounds, catch_up, due_after
from models.customers import Batch, Customer
from models.documents import entry_documents, value_update
from models.identity import with_version
from models.moves import Moves, moves
from models.outbox import (
    Overfull,
    WithEvidence,
    changes_entry,
    outbox,
    removal_entry,
    with_evidence,
)
from models.outputs import CurrentValue, Removed
from models.scores import Evaluation, Look, RemovalStep, Resend, Scores
from models.silence import Silence
from models.timeline import NEVER

Told = tuple[Scores, int]
"""The scores of which a row is published, and its number."""


def finish(*batches: Batch) -> None:
    """Score all rows of batches at once, and fill their `outputs`; they share their scoring."""
    touched: list[tuple[Batch, Customer]] = []
    for batch in batches:
        for customer in batch.customers.values():
            if customer.steps:
                touched.append((batch, customer))
            elif customer.kept:
                batch.store(customer)
    if touched:
        scoring, customers = batches[0].scoring, [customer for _, customer in touched]
        scores = scoring.rows.scores()
        looked = catch_up(scoring)
        known = bounds(scoring, customers)
        moved = moves(scoring, customers, scores, looked)
        updated = []
        for batch, customer in touched:
            told = _publish(batch, customer, (scores, looked), known, moved)
            if told is not None:
                updated.append((batch, customer, told))
        _update(updated, scores, looked)


def _publish(
    batch: Batch,
    customer: Customer,
    scored: tuple[Scores, Scores],
    known: dict[int, int],
    moved: Moves,
) -> Told | None:
    """Publish what a customer's steps come to; return what their value update is to say, or None.

    scored: the scores of events, and of looks into silences. known: see `bounds`.
    """
    record, outputs, day = customer.record, batch.outputs, batch.context.economics.day
    scores, looked = scored
    pending = list(with_evidence(customer.pending, customer.stored_row, scores))
    fresh: list[WithEvidence] = []
    told, row, as_of, last = False, 0, 0, scores
    for step in customer.steps:
        if isinstance(step, Evaluation):
            noted = changes_entry(record, batch.origin, step, scores, day)
            if noted is not None:
                fresh.append(noted)
            told, row, as_of, last = True, step.row, step.as_of, scores
        elif isinstance(step, Silence):
            look = _look_back(batch, customer, step, looked, fresh)
            if look is not None:
                told, row, as_of, last = True, look.row, look.as_of, looked
        elif isinstance(step, Resend):
            told, row, last = True, step.row or 0, scores
            _publish_entries(batch, customer, pending)
        else:
            told = True
            fresh.append(_remove(batch, customer, step, as_of))
    if len(fresh) > batch.most_in_flight - customer.flying:
        _check_room(batch, customer)
    _publish_entries(batch, customer, fresh)
    if customer.kept or not all(isinstance(step, Resend) for step in customer.steps):
        if told:
            of = moved.of_look if last is looked else moved.of_event
            record.moved = of[row].parts if row in of else ()
        record.outbox = outbox([*pending, *fresh], record.version, record.told_at)
        _store(batch, customer, known)
    if told and customer.present:
        return last, row
    if told:
        outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))
    return None


def _look_back(
    batch: Batch,
    customer: Customer,
    silence: Silence,
    looked: Scores,
    entries: list[WithEvidence],
) -> Look | None:
    """Add the entries of what a silence has changed; return the look to publish the value of.

    Of one silence no more changes are told than an outbox has room for, but for those that the
    event after it brings.
    """
    last, day = None, batch.context.economics.day
    for look in silence.looks:
        if len(entries) >= batch.most_in_flight - customer.flying - 1:
            _check_room(batch, customer)
            break
        noted = changes_entry(customer.record, batch.origin, look, looked, day)
        if noted is not None:
            entries.append(noted)
            last = look
    record, refresh = customer.record, silence.refresh
    if refresh is not None and refresh.as_of > record.told_at:
        record.refreshed, record.told = refresh.as_of, looked.clv[refresh.row]
        last = refresh
    return last


def _check_room(batch: Batch, customer: Customer) -> None:
    """Raise Overfull if the outbox has room for all when less is taken at once, or later."""
    events = sum(isinstance(step, Evaluation) for step in customer.steps)
    if batch.in_parts and (customer.flying or events > 1):
        raise Overfull


def _remove(batch: Batch, customer: Customer, step: RemovalStep, told: int) -> WithEvidence:
    """Return the entry of a removal; told: as of when the customer was told of before."""
    record = customer.record
    as_of = step.as_of if step.reason == "erased" else max(told, step.as_of)
    entry = removal_entry(record, batch.origin, step, as_of)
    if step.handover:
        handover = with_version(step.handover, record.version, as_of)
        batch.outputs.handovers.append((step.into.encode(), handover))
    return entry


def _set_due(batch: Batch, customer: Customer, known: dict[int, int]) -> None:
    """Note when to look at the customer again."""
    record, last = customer.record, customer.steps[-1]
    if isinstance(last, Resend):
        return
    due = record.due = due_after(batch.scoring, customer, known)
    record.turn = record.turn_by = 0
    if isinstance(last, Silence):
        record.base = last.base if last.base != record.as_of else 0
        record.turn = last.turn_day(batch.context.economics)
        record.turn_by = batch.context.search_by(last.standing.model, last.standing.rules)
    if record.backfill:
        due = NEVER
    elif not due:
        economics = batch.context.economics
        due = economics.day_begins(economics.day(record.base or record.as_of) + 1)
    batch.outputs.dues[customer.key] = due


def _publish_entries(batch: Batch, customer: Customer, entries: Iterable[WithEvidence]) -> None:
    for entry, evidence in entries:
        documents = entry_documents(customer.customer_id, entry, evidence, batch.context)
        batch.outputs.segment_changes.extend((customer.key, each) for each in documents)


def _update(updated: Sequence[tuple[Batch, Customer, Told]], *scores: Scores) -> None:
    """Add the value updates of customers to the outputs of their batches."""
    rows = {id(each): [row for _, _, (of, row) in updated if of is each] for each in scores}
    published = {id(each): iter(each.published(rows[id(each)])) for each in scores}
    for batch, customer, (of, row) in updated:
        record, scored = customer.record, (next(published[id(of)]), of.models[row])
        document = value_update(
            customer.customer_id, record, customer.summary, scored, batch.context
        )
        batch.outputs.updates.append(
            CurrentValue(
                customer.customer_id,
                customer.key,
                record.version,
                of.clv[row],
                tuple(record.segments.items()),
                document,
            )
        )


def _store(batch: Batch, customer: Customer, known: dict[int, int]) -> None:
    record, records = customer.record, batch.outputs.records
    if customer.present:
        _set_due(batch, customer, known)
    if customer.present or record.into:
        batch.store(customer)
        return
    # Erased: only a fingerprint of the id stays. It is written first, in case of a crash between.
    left = Forgotten(record.erased_at, record.version, record.applied, record.outbox)
    records[forgotten_key(customer.key, batch.context.erasure_key)] = encode_record(left)
    records[customer.key] = None
