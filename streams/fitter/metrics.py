"""A fitter's metrics."""

from __future__ import annotations

from typing import get_args

from streams.fitter.due import in_force, next_refit
from streams.fitter.fitter import Fitter
from streams.metrics.meters import Sample, Samples, info, one
from streams.registry.records import Outcome
from streams.versions import program_version


def fitter_samples(fitter: Fitter | None) -> Samples:
    """Return the samples of a fitter; None: it has not started yet."""
    samples = {"clv_build_info": info(program_version()), "clv_ready": one(0)}
    if fitter is None:
        return samples
    registry, now = fitter.registry, fitter.now()
    current = in_force(registry, now)
    done: list[Sample] = [] if registry.done is None else one(registry.done.at.timestamp())
    due: list[Sample] = []
    if fitter.every is not None and current is not None:
        due = one(next_refit(registry, now, fitter.every).timestamp())
    return samples | {
        "clv_ready": one(fitter.ready),
        "clv_customers": one(len(fitter.customers.population)),
        "clv_parameters_info": [] if current is None else info(current.version),
        "clv_refits_total": [
            ((outcome,), float(fitter.meters.refits[outcome]))
            for outcome in get_args(Outcome)
            if outcome != "publishing"
        ],
        "clv_refit_seconds": [((), fitter.meters.seconds)],
        "clv_last_refit_timestamp_seconds": done,
        "clv_next_refit_timestamp_seconds": due,
    }
