"""What would happen to a refused record if it arrived now, under the current configuration."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import ValidationError

from models.acceptance import FUTURE_TOLERANCE, check_acceptable
from models.aggregate.fold import milliseconds
from models.contracts import Reason, Refused, check_topic, customer_of, decode
from models.contracts.clock import Tick
from streams.dead_letters.letter import Letter
from streams.settings import Settings


class Verdict(NamedTuple):
    """Whether it would be accepted; "unknown" where that needs what only a worker knows.

    "processed": it was not refused.

    customer: whose event it is, if it is one.
    """

    outcome: Literal["accepted", "refused", "unknown", "processed"]
    why: str
    customer: str | None = None

    def __str__(self) -> str:
        if self.outcome == "accepted":
            return "would be accepted now"
        if self.outcome == "refused":
            return f"would be refused: {self.why}"
        if self.outcome == "processed":
            return f"would not be sent: {self.why}"
        return f"cannot be told: {self.why}"


_ONLY_A_WORKER_KNOWS = {
    Reason.BEYOND_MEMORY.value: "it was older than what is remembered of its customer, which only "
    "a worker knows",
    Reason.POISON.value: "it stopped workers; send it by force, once a version that can work on it "
    "runs",
}


def judge(letter: Letter, value: bytes | None, settings: Settings, now: int) -> Verdict:
    """Judge a letter's record, with this value, as of now (milliseconds since 1970)."""
    if letter.refused is None or letter.is_notice:
        return _never_refused(letter)
    topic = letter.refused.topic
    if topic == settings.topics.clock:
        return _tick(value, now)
    if topic not in settings.topics.inputs:
        return Verdict("unknown", f"only a worker can judge what is in {topic}")
    customer = None
    try:
        event = decode(letter.key, value, letter.headers)
        check_topic(event, settings.topics.role(topic))
        customer = customer_of(event, letter.key)
        check_acceptable(event, customer, now, now, settings.economics)
    except Refused as refused:
        return Verdict("refused", str(refused), customer)
    if (why := _ONLY_A_WORKER_KNOWS.get(letter.reason)) is not None:
        return Verdict("unknown", why, customer)
    return Verdict("accepted", "", customer)


def _never_refused(letter: Letter) -> Verdict:
    if letter.is_notice:
        return Verdict("processed", "it is a notice about an event that was not refused")
    return Verdict("unknown", letter.message)


def _tick(value: bytes | None, now: int) -> Verdict:
    try:
        tick = Tick.model_validate_json(value or b"")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Verdict("refused", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if milliseconds(tick.as_of) > now + FUTURE_TOLERANCE:
        why = f"as_of is {tick.as_of.isoformat()}, more than a day ahead"
        return Verdict("refused", why)
    return Verdict("accepted", "")
