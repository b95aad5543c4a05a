"""Every metric of ours: its name, kind, labels, who has it, and what it says.

docs/metrics.md has the same table; alert rules and the board name nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Process = Literal["worker", "fitter", "serve"]


class Metric(NamedTuple):
    """One metric. processes: who exposes it. meaning: one line, without a full stop."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    processes: tuple[Process, ...]
    meaning: str


ALL: Final[tuple[Process, ...]] = ("worker", "fitter", "serve")
WORKER: Final[tuple[Process, ...]] = ("worker",)
FITTER: Final[tuple[Process, ...]] = ("fitter",)
SERVE: Final[tuple[Process, ...]] = ("serve",)


def _metrics() -> tuple[Metric, ...]:
    return (
        Metric("clv_build_info", "gauge", ("version",), ALL, "1, with the version of the program"),
        Metric("clv_ready", "gauge", (), ("worker", "fitter"), "1 if `/ready` answers with 200"),
        Metric("clv_health", "gauge", ("status",), WORKER, "1 for the status in `/health`, else 0"),
        # What came in.
        Metric(
            "clv_records_total",
            "counter",
            ("input", "outcome"),
            WORKER,
            "records processed, by input and by what became of them",
        ),
        Metric("clv_events_total", "counter", ("type",), WORKER, "events accepted, by their type"),
        Metric(
            "clv_dead_letters_total", "counter", ("reason",), WORKER, "records refused, by reason"
        ),
        Metric(
            "clv_notices_total",
            "counter",
            ("reason",),
            WORKER,
            "events that count and should be looked at, by reason",
        ),
        Metric("clv_ticks_total", "counter", (), WORKER, "ticks processed"),
        # What went out.
        Metric("clv_updates_total", "counter", (), WORKER, "value updates published"),
        Metric(
            "clv_segment_changes_total",
            "counter",
            (),
            WORKER,
            "segment changes and removals published",
        ),
        Metric("clv_new_customers_total", "counter", (), WORKER, "customers seen first"),
        Metric(
            "clv_removed_customers_total", "counter", (), WORKER, "customers erased or merged away"
        ),
        # How fast.
        Metric(
            "clv_lag_records",
            "gauge",
            ("topic", "partition"),
            WORKER,
            "records to process; absent until the broker has reported it",
        ),
        Metric(
            "clv_engine_seconds",
            "histogram",
            ("input",),
            WORKER,
            "one call of the engine: decode, fold, score, segments; one observation per batch",
        ),
        Metric(
            "clv_batch_seconds",
            "histogram",
            ("input",),
            WORKER,
            "from the call of the engine until every output of the batch is acknowledged",
        ),
        Metric(
            "clv_end_to_end_seconds",
            "histogram",
            ("input",),
            WORKER,
            "from the timestamp of the oldest record of a batch until every output is acknowledged",
        ),
        # What it holds.
        Metric("clv_partitions", "gauge", (), WORKER, "input partitions of this worker"),
        Metric(
            "clv_state_records",
            "gauge",
            (),
            WORKER,
            "records in memory: customers, and a few of the worker's own and of those erased",
        ),
        Metric("clv_batches_in_work", "gauge", (), WORKER, "batches whose deliveries are awaited"),
        Metric(
            "clv_deliveries_outstanding",
            "gauge",
            (),
            WORKER,
            "batches of records sent and not yet acknowledged by the broker",
        ),
        Metric(
            "clv_standing_still_seconds",
            "gauge",
            (),
            WORKER,
            "for how long work has waited and none was finished",
        ),
        Metric(
            "clv_broker_silent_seconds",
            "gauge",
            (),
            WORKER,
            "for how long the broker has not answered; 0 if it answers",
        ),
        Metric("clv_recovered", "gauge", (), WORKER, "1 once the tables are restored"),
        Metric(
            "clv_recovery_records",
            "gauge",
            (),
            WORKER,
            "changelog records read by a recovery under way, else 0",
        ),
        Metric(
            "clv_recovery_expected_records",
            "gauge",
            (),
            WORKER,
            "changelog records that a recovery under way will read at most, else 0",
        ),
        Metric(
            "clv_state_copy_ok", "gauge", (), WORKER, "0 if the copy of the state on disk fails"
        ),
        # Redis.
        Metric("clv_cache_up", "gauge", (), WORKER, "0 while Redis cannot be written"),
        Metric("clv_cache_ok", "gauge", (), WORKER, "0 if what Redis holds may be wrong"),
        Metric(
            "clv_cache_pending_customers", "gauge", (), WORKER, "customers waiting to be written"
        ),
        Metric(
            "clv_cache_behind_partitions",
            "gauge",
            (),
            WORKER,
            "partitions of which Redis lacks updates, and catches up",
        ),
        Metric(
            "clv_cache_behind_records", "gauge", (), WORKER, "updates left in them, as far as known"
        ),
        # Parameters.
        Metric("clv_customers", "gauge", (), FITTER, "customers of the whole service"),
        Metric(
            "clv_parameters_info",
            "gauge",
            ("version",),
            ("worker", "fitter"),
            "1, with the version of the parameters in force; absent while there are none",
        ),
        Metric("clv_refits_total", "counter", ("outcome",), FITTER, "refits, by what came of them"),
        Metric("clv_refit_seconds", "histogram", (), FITTER, "one refit, with its publication"),
        Metric(
            "clv_last_refit_timestamp_seconds",
            "gauge",
            (),
            FITTER,
            "when it refitted last, whichever fitter did; absent before the first",
        ),
        Metric(
            "clv_next_refit_timestamp_seconds",
            "gauge",
            (),
            FITTER,
            "when the next is due at the latest",
        ),
        # The read API.
        Metric(
            "clv_requests_total",
            "counter",
            ("path", "status"),
            SERVE,
            "requests answered, by route and status; `other` is no route",
        ),
        Metric(
            "clv_request_seconds",
            "histogram",
            ("path",),
            SERVE,
            "from a request to the beginning of its answer",
        ),
        Metric("clv_requests_open", "gauge", (), SERVE, "requests under way, streams among them"),
    )


CATALOGUE: Final[Mapping[str, Metric]] = {each.name: each for each in _metrics()}
"""All metrics by name."""

OUTCOMES: Final = ("accepted", "duplicate", "replayed", "forgotten", "rerouted", "refused")
"""What becomes of a record."""
