"""What a service came to, taken from what it published."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from models.contracts.dead_letters import DeadLetter, Headers, noted, split_headers
from streams.testing.golden_facts import Fact, Facts

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.testing.service import Service


class Outcome:
    """Takes what a service publishes, each partition's in its order; it may be told things twice.

    It is one of the sinks that a replay in memory passes everything on to.
    """

    def __init__(self) -> None:
        self._values: dict[str, Fact] = {}
        self._changes: defaultdict[str, dict[str, Fact]] = defaultdict(dict)
        self._letters: dict[tuple[str, int, int], str] = {}

    def state(self, key: bytes, data: bytes | None) -> None:
        """Pass over a record of the changelog: what counts is what was published."""

    def update(self, key: bytes, document: bytes | None) -> None:
        """Take a record of the value updates; None: the customer is gone."""
        customer = key.decode()
        if document is None:
            self._values.pop(customer, None)
            return
        data = json.loads(document)["data"]
        self._values[customer] = {
            "customer": customer,
            "value": data["clv"],
            "currency": data["currency"],
            "as_of": data["as_of"],
            "segments": dict(sorted(data["segments"].items())),
        }

    def change(self, key: bytes, document: bytes) -> None:
        """Take a change of segment, or a notice of a customer who is gone."""
        customer, event = key.decode(), json.loads(document)
        data = event["data"]
        if event["type"] == "clv.segment-changed":
            said = {"change": data["dimension"], "from": data["previous"], "to": data["current"]}
        else:
            said = {"removed": data["reason"], "into": data["merged_into"]}
        fact = {"customer": customer, **said, "as_of": data["as_of"]}
        self._changes[customer].setdefault(event["id"], fact)

    def letter(self, headers: Headers) -> None:
        """Take a dead letter's headers; the note of a retry is none."""
        if noted(headers) is None and split_headers(headers) is not None:
            letter = DeadLetter.from_headers(headers)
            self._letters[letter.topic, letter.partition, letter.offset] = letter.reason

    def facts(self) -> Facts:
        """All facts, by customer; a customer's value first, then what changed, in its order."""
        facts: Facts = {}
        for customer in sorted(self._values.keys() | self._changes.keys()):
            value = self._values.get(customer)
            told = self._changes.get(customer, {}).values()
            facts[customer] = [*([] if value is None else [value]), *told]
        reasons = Counter(self._letters.values())
        if reasons:
            facts[""] = [{"dead_letters": name, "count": reasons[name]} for name in sorted(reasons)]
        return facts


async def outcome_of(service: Service) -> Outcome:
    """What a topology came to, once it has settled."""
    topics, outcome = service.settings.topics, Outcome()
    for record in await service.topic(topics.updates):
        if record.key is not None:
            outcome.update(record.key, record.value)
    for record in await service.topic(topics.segment_changes):
        if record.key is not None and record.value is not None:
            outcome.change(record.key, record.value)
    for record in await service.topic(topics.dead_letters):
        outcome.letter(record.headers)
    return outcome


async def replayed(recording: str | Path, settings: Settings | None = None) -> Outcome:
    """What the service comes to by a recording, replayed in memory.

    settings: those of `shop_settings`, if there are none. Errors: RecordingUnusable, ReplayFailed,
    OSError.
    """
    from streams.recording import FromFile, Recording  # noqa: PLC0415 - they import this package
    from streams.recording.memory import in_memory  # noqa: PLC0415
    from streams.testing.settings import shop_settings  # noqa: PLC0415

    outcome, source = Outcome(), FromFile(Recording(Path(recording)))
    async with in_memory(settings or shop_settings(), source, [outcome]) as replay:
        await replay.run()
    return outcome
