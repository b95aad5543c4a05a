"""The walk from midnight to midnight finds what the engine does, and faults that are planted."""

import json
from datetime import UTC, datetime
from itertools import count

import pytest

from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.timeline import Timeline
from tests.faults.offline import Logged
from tests.faults.passing_time import PassingTime, dimensions, other_dimensions
from tests.faults.published import milliseconds
from tests.faults.silence_runs import other_parameters, rules_of
from tests.faults.silences import check_silences
from tests.faults.verdict import Verdict

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def made(seed: int, *, renewed: bool) -> PassingTime:
    return PassingTime(seed, 60, "run1", now=NOW, renewed=renewed)


def told(workload: PassingTime, *, sweeps: bool) -> list[Logged]:
    """What the engine tells, swept at each stage or once at the end."""
    rules = Timeline().with_(rules_of(dimensions()))
    parameters = Timeline()
    if workload.new_rules_at is not None:
        rules = rules.with_(rules_of(other_dimensions(), workload.new_rules_at))
    if workload.new_parameters_at is not None:
        parameters = parameters.with_(other_parameters("new", workload.new_parameters_at))
    context = Context(Economics(currency="USD"), parameters, rules, erasure_key=b"k" * 32)
    states, changes, offsets = {}, [], count()

    def take(outputs) -> None:
        states.update(outputs.records)
        changes.extend(
            Logged(0, len(changes), key, document) for key, document in outputs.segment_changes
        )

    for stage in workload.stages:
        now = milliseconds(stage.clock)
        for topic in ("orders", "support"):
            records = [
                Logged(0, next(offsets), event.key, event.value, tuple(event.headers), now)
                for event, _ in stage.items
                if event.topic == topic
            ]
            outputs = process(states, f"{topic}/0", records, context, now=now, role=topic)
            assert outputs.taken == len(records)
            assert not outputs.dead_letters
            take(outputs)
        if sweeps or stage is workload.stages[-1]:
            before = -1
            # Who has more to be told than fits an outbox remains due.
            while before < len(changes):
                before, keys = len(changes), list(states)
                take(
                    advance(
                        states, keys, "clock/0", next(offsets), context, as_of=now, due_only=True
                    )
                )
    return changes


def verdict_on(workload: PassingTime, changes: list[Logged]) -> Verdict:
    verdict = Verdict()
    check_silences(workload.expected, changes, "run1-", verdict)
    return verdict


@pytest.mark.parametrize("renewed", [False, True], ids=["", "renewed"])
@pytest.mark.parametrize("sweeps", [False, True], ids=["at the end", "each stage"])
@pytest.mark.parametrize("seed", range(3))
def test_the_walk_finds_what_the_engine_tells(seed: int, sweeps: bool, renewed: bool):
    workload = made(seed, renewed=renewed)
    changes = told(workload, sweeps=sweeps)
    verdict = verdict_on(workload, changes)
    assert verdict.ok, str(verdict)
    causes = {json.loads(each.value)["data"]["cause"] for each in changes}
    assert causes == {"event", "time", *(["model", "rules"] if renewed else [])}


def test_faults_that_are_planted_are_found():
    workload = made(7, renewed=False)
    changes = told(workload, sweeps=True)
    place = next(
        number
        for number, each in enumerate(changes)
        if json.loads(each.value)["data"]["cause"] == "time"
    )
    lost = changes[:place] + changes[place + 1 :]
    assert verdict_on(workload, lost).faults == {"missing_changes": 1}
    document = json.loads(changes[place].value)
    document["id"] += "0"
    again = changes[place]._replace(offset=10_000, value=json.dumps(document).encode())
    assert verdict_on(workload, [*changes, again]).faults == {"wrong_changes": 1}
    document = json.loads(changes[place].value)
    document["data"]["as_of"] = workload.end.isoformat()
    changes[place] = changes[place]._replace(value=json.dumps(document).encode())
    assert verdict_on(workload, changes).faults == {"wrong_changes": 1}
