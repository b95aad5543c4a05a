"""Rules of segments in a recording decide in its replay, each from when it holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from models.segments import DEFAULT_DIMENSIONS, NO_RULES, named_rules
from streams.outcome.outcome import Outcome
from streams.recording import Recording
from streams.registry.records import rules_key
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings

from .support import TICK, Making, milliseconds, some_events, write

FIRST = named_rules(DEFAULT_DIMENSIONS[:1], "first")
LATER = named_rules(DEFAULT_DIMENSIONS[:2], "later").model_copy(
    update={"holds_from": datetime(1997, 3, 1, tzinfo=UTC)}
)


class Changes(Outcome):
    """Keeps the segment changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[dict] = []

    def take(self, role, key, value, headers=()) -> None:
        if role == "segment_changes":
            self.changes.append(json.loads(value)["data"])
        super().take(role, key, value, headers)


async def test_a_replay_goes_by_the_recorded_rules(tmp_path):
    making, events = Making(2), some_events(3, customers=30)
    begin = milliseconds(events[0].time)
    records = [
        making.record("models", 0, begin, rules_key(each.version), each.model_dump_json().encode())
        for each in (FIRST, LATER)
    ]
    records.append(making.record("models", 0, begin, rules_key("bad"), b'{"version": "bad"}'))
    records += [making.event(event) for event in events]
    path = tmp_path / "rules.clvrec"
    write(path, [*records, *making.ticks(TICK)])
    outcome = Changes()
    settings = Settings(dimensions=NO_RULES.dimensions)
    async with in_memory(settings, FromFile(Recording(path)), outcome) as replay:
        await replay.run()
        assert len(replay.refused_parameters) == 1
    by_version = {each["rules"] for each in outcome.changes}
    assert by_version == {FIRST.version, LATER.version}
    for change in outcome.changes:
        later = datetime.fromisoformat(change["as_of"]) >= LATER.holds_from
        assert change["rules"] == (LATER if later else FIRST).version
        assert later or change["dimension"] == "lifecycle"
