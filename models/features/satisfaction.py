"""How content a customer said to be, in tickets and surveys, and which tickets are open."""

from __future__ import annotations

import math
from typing import NamedTuple

from models.aggregate.state import Aggregate

NAN = math.nan


class Support(NamedTuple):
    """What a customer said in tickets and surveys, from 0 (worst) to 1 (best), nan for nothing.

    rating: the mean of the ratings of remembered tickets. latest: the last score of any kind.
    open_tickets: remembered tickets that were opened and not resolved.
    """

    rating: float
    nps: float
    csat: float
    ces: float
    latest: float
    open_tickets: int


def support_of(state: Aggregate) -> Support:
    """Return what a customer said, and how many tickets are open."""
    scores: list[tuple[int, float]] = []
    still_open = 0
    for ticket in state.tickets.values():
        if ticket.rated is not None:
            scores.append((ticket.rated.time, ticket.rated.score))
        still_open += ticket.opened is not None and ticket.resolved is None
    rating = math.fsum(score for _, score in scores) / len(scores) if scores else NAN
    answers = {kind: answer.score for kind, answer in state.surveys.items()}
    scores += ((answer.time, answer.score) for answer in state.surveys.values())
    return Support(
        rating,
        answers.get("nps", NAN),
        answers.get("csat", NAN),
        answers.get("ces", NAN),
        max(scores)[1] if scores else NAN,
        still_open,
    )
