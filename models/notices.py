"""Notices: what a publisher should look at although the event counts, or another one does.

A notice changes nothing. There is at most one for an arriving event; none for one that was applied
before, and one again for a contradiction that is sent again.
"""

from __future__ import annotations

from models.aggregate.state import Aggregate
from models.contracts import Envelope, Reason, Refused
from models.events.kinds import EVENTS, Effect

_CONTESTS = (Effect.CONTESTED, Effect.OUTDONE)


def notice_of(event: Envelope, effect: Effect, state: Aggregate) -> Refused | None:
    """Return the notice about an event, if there is one.

    effect: of the event on the state. state: afterwards.
    """
    if effect in _CONTESTS:
        return _ambiguous(event, effect)
    doubt = EVENTS[event.type].doubt
    words = None if doubt is None or effect is not Effect.APPLIED else doubt(state, event)
    if words is None:
        return None
    field, detail = words
    return Refused(Reason.REFUND_BEYOND_TOTAL, f"data.{field}", detail)


def _ambiguous(event: Envelope, effect: Effect) -> Refused:
    ids, data = EVENTS[event.type].ids, event.data
    about = ids[0] if ids else "customer_id"
    order = event.type == "order.placed"
    this, other = ("this", "the other") if effect is Effect.CONTESTED else ("the other", "this")
    return Refused(
        Reason.AMBIGUOUS,
        f"data.{about}",
        f"data.{about} is {getattr(data, about)!r}: two events of type {event.type} say different "
        f"things about it, with the same {'revision' if order else data.time_field} and the same "
        f"time, so that nothing tells which is newer. By its greater content {this} one counts, "
        f"and {other} one does not. Send what is right again, with a later time"
        f"{' or a higher revision' if order else ''}",
    )
