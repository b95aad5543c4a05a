"""The health of a fitter, over HTTP as a worker's."""

from __future__ import annotations

from streams.fitter.due import in_force
from streams.fitter.fitter import Fitter
from streams.health.server import Answer
from streams.text import json_text


def answer(fitter: Fitter | None) -> Answer:
    """Return what /ready and /health say; None: it has not started yet. No customer data."""
    if fitter is None or not fitter.ready:
        unready = "starting: the changelog and the parameters are read"
        return Answer(
            unready, json_text({"status": "starting", "ready": False, "reasons": [unready]})
        )
    current, state = in_force(fitter.registry, fitter.now()), fitter.registry.state
    reasons = []
    if current is None:
        reasons.append("no parameters are published: weak prior ones are used")
    if state is not None and state.outcome in ("refused", "impossible"):
        reasons += [f"the last refit was {state.outcome}: {each}" for each in state.reasons]
    document = {
        "status": "degraded" if reasons else "ok",
        "ready": True,
        "reasons": reasons,
        "customers": len(fitter.customers.population),
        "parameters": None if current is None else current.version,
        "last_refit": None if state is None else state.model_dump(mode="json"),
    }
    return Answer("", json_text(document))
