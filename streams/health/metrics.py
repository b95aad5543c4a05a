"""A worker's metrics: what was observed, and what it counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from models.contracts import EVENT_TYPES, Reason
from models.contracts.decode import NOTICES
from models.events.kinds import TYPES_OF_TOPIC
from streams.counts import Counts
from streams.health.assess import Observation, Status, assess
from streams.kafka.partitions import TopicPartition
from streams.metrics.catalogue import OUTCOMES
from streams.metrics.meters import Histogram, Sample, Samples, WorkerMeters, info, one


@dataclass(frozen=True, slots=True)
class Measured:
    """What a running worker has measured, beside what is observed of its health.

    lags: as in `Partitions`. stored: records in its tables. outstanding: batches of records sent
    and not acknowledged.
    """

    counts: Counts = field(default_factory=Counts)
    meters: WorkerMeters = field(default_factory=WorkerMeters)
    lags: Mapping[TopicPartition, int | None] = field(default_factory=dict)
    stored: int = 0
    outstanding: int = 0


def worker_samples(seen: Observation, measured: Measured) -> Samples:
    """Return the samples of a worker; one that has not started yet has measured nothing."""
    health, counts, meters = assess(seen), measured.counts, measured.meters
    cache, recovery = seen.cache, seen.recovery
    behind = cache.catching_up.values()
    return {
        "clv_build_info": info(seen.version),
        "clv_ready": one(health.ready),
        "clv_health": [((each,), float(each == health.status)) for each in get_args(Status)],
        "clv_records_total": [
            ((role, outcome), meters.records[role, outcome])
            for role in (*TYPES_OF_TOPIC, "rerouted")
            for outcome in OUTCOMES
        ],
        "clv_events_total": [((each,), float(meters.events[each])) for each in EVENT_TYPES],
        # From 0 on, so that the first letter of a reason is an increase.
        "clv_dead_letters_total": _by_reason(counts.dead_letters, set(Reason) - NOTICES),
        "clv_notices_total": _by_reason(counts.notices, NOTICES),
        "clv_ticks_total": one(counts.ticks),
        "clv_updates_total": one(counts.updates),
        "clv_segment_changes_total": one(counts.segment_changes),
        "clv_new_customers_total": one(counts.new_customers),
        "clv_removed_customers_total": one(counts.removed),
        "clv_lag_records": [
            ((tp.topic, str(tp.partition)), lag)
            for tp, lag in measured.lags.items()
            if lag is not None
        ],
        "clv_engine_seconds": _histograms(meters.engine),
        "clv_batch_seconds": _histograms(meters.batches),
        "clv_end_to_end_seconds": _histograms(meters.latency),
        "clv_partitions": one(len(measured.lags)),
        "clv_state_records": one(measured.stored),
        "clv_batches_in_work": one(seen.in_work),
        "clv_deliveries_outstanding": one(measured.outstanding),
        "clv_standing_still_seconds": one(seen.standing_still),
        "clv_broker_silent_seconds": one(seen.broker_silent or 0.0),
        "clv_recovered": one(seen.recovered),
        "clv_recovery_records": one(0 if recovery is None else recovery.records),
        "clv_recovery_expected_records": one(0 if recovery is None else recovery.expected),
        "clv_state_copy_ok": one(seen.store_problem is None),
        "clv_cache_up": one(cache.away is None),
        "clv_cache_ok": one(cache.problem is None),
        "clv_cache_pending_customers": one(cache.pending),
        "clv_cache_behind_partitions": one(len(behind)),
        "clv_cache_behind_records": one(sum(left for left in behind if left is not None)),
        "clv_parameters_info": [] if seen.parameters is None else info(seen.parameters),
    }


def _by_reason(counted: Mapping[str, int], known: Iterable[Reason]) -> list[Sample]:
    """Return the counts, and 0 for the known reasons that never occurred."""
    reasons = sorted({*counted, *(reason.value for reason in known)})
    return [((reason,), float(counted.get(reason, 0))) for reason in reasons]


def _histograms(of: Mapping[str, Histogram]) -> list[Sample]:
    return [((role,), histogram) for role, histogram in of.items()]
