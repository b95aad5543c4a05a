"""Accept losses: what is done about each one, and what is written to the basis about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from models.errors import ClvError
from streams.basis.examine import Group
from streams.basis.findings import ACCEPTABLE, Finding, Kind, place
from streams.basis.judge import Shop, adopt, origin_key
from streams.basis.record import Accepted, Basis
from streams.kafka.partitions import Bounds, TopicPartition
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.transport.batches import origin_of

State = Literal["rebuild", "from-nothing"]
"""What to do about a state that is gone."""


class NotAcceptable(ClvError):
    """A finding is not a loss that can be accepted, or the operator has to say more."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done about one loss.

    commits: offsets to commit. partitions: whose basis records the loss. replaced: logs that count
    as new ones from now on. anew: whether new customers need versions above all published ones.
    emptied: whether the records of the changelog are deleted first.
    """

    finding: Finding
    resolved: str
    commits: Mapping[TopicPartition, int]
    partitions: frozenset[int]
    replaced: frozenset[TopicPartition] = frozenset()
    anew: bool = False
    emptied: bool = False


@dataclass(slots=True)
class Resolution:
    """What is to be written, in this order: `before`, offsets, `after`.

    before: bases with the new origins of replaced logs, in which the losses are still visible, so
    that they are found again if the program ends between two writes.
    """

    steps: Sequence[Step]
    before: dict[int, Basis] = field(default_factory=dict)
    commits: dict[TopicPartition, int] = field(default_factory=dict)
    after: dict[int, Basis] = field(default_factory=dict)


def plan_steps(
    settings: Settings,
    group: Group,
    bounds: Mapping[TopicPartition, Bounds],
    found: Sequence[Finding],
    state: State | None,
) -> list[Step]:
    """Return what to do about the findings.

    bounds: of all input logs. state: what to do if the state is gone. Errors: NotAcceptable if a
    finding is not a loss, or the state is gone and `state` is not given.
    """
    others = [finding for finding in found if finding.kind not in ACCEPTABLE]
    if others:
        raise NotAcceptable(
            "; ".join(f"{finding}. To do: {finding.remedy}" for finding in others)
            + ". That is no loss to accept"
        )
    if state is None and any(finding.kind is Kind.STATE for finding in found):
        raise NotAcceptable(
            "the state is gone: say --rebuild to have everything computed anew from the events "
            "that are kept, or --from-nothing to go on with what the changelog holds"
        )
    # Last, because rebuilding the state reads the logs from their beginning, whatever was lost.
    ordered = sorted(found, key=lambda finding: finding.kind is Kind.STATE)
    return [
        _state_step(settings, bounds, finding, state)
        if finding.kind is Kind.STATE
        else _log_step(group, bounds, finding)
        for finding in ordered
    ]


def _log_step(group: Group, bounds: Mapping[TopicPartition, Bounds], finding: Finding) -> Step:
    if finding.tp is None:
        lost = {tp for tp in bounds if tp.topic == finding.place and _was_read(group, tp)}
    else:
        lost = {finding.tp}
    go_on = {
        tp: bounds[tp].begin if finding.go_on is None else finding.go_on for tp in sorted(lost)
    }
    partitions = frozenset(tp.partition for tp in lost)
    if finding.kind is Kind.DELETED:
        return Step(finding, f"reading goes on at {_offsets(go_on)}", go_on, partitions)
    resolved = f"the log counts as another one, and is read from {_offsets(go_on)}"
    return Step(finding, resolved, go_on, partitions, replaced=frozenset(lost))


def _state_step(
    settings: Settings,
    bounds: Mapping[TopicPartition, Bounds],
    finding: Finding,
    state: State | None,
) -> Step:
    changelog = changelog_topic(settings)
    numbers = {tp.partition for tp in bounds}
    if finding.place != changelog:
        numbers = {n for n in numbers if finding.place == place(TopicPartition(changelog, n))}
    if state == "from-nothing":
        resolved = "the service goes on with what the changelog holds"
        return Step(finding, resolved, {}, frozenset(numbers), anew=True)
    again = {
        tp: found.begin
        for tp, found in bounds.items()
        if tp.partition in numbers and tp.topic != settings.topics.clock
    }
    resolved = "everything is computed anew from the events that are kept"
    return Step(finding, resolved, again, frozenset(numbers), anew=True, emptied=True)


def _was_read(group: Group, tp: TopicPartition) -> bool:
    basis = group.bases.get(tp.partition)
    marked = basis is not None and origin_key(tp) in basis.marks
    return marked or bool(group.here.committed.get(tp))


def _offsets(offsets: Mapping[TopicPartition, int]) -> str:
    if len(offsets) == 1:
        return f"offset {next(iter(offsets.values())):,}"
    return ", ".join(f"{place(tp)}@{offset}" for tp, offset in offsets.items()) or "its beginning"


def resolve(
    group: Group,
    steps: Sequence[Step],
    *,
    shop: Shop,
    ids: Mapping[str, str],
    first_versions: Mapping[int, int],
    at: int,
) -> Resolution:
    """Return what has to be written to go on without what is lost.

    ids: of the topics as they are now. first_versions: the greatest published version, of
    partitions that start from nothing. at: milliseconds since 1970.
    """
    done = Resolution(steps)
    for step in steps:
        done.commits.update(step.commits)
    for number in sorted({n for step in steps for n in step.partitions}):
        held = group.bases.get(number)
        after = deepcopy(adopt(held, shop, ids, ids))
        ours = [step for step in steps if number in step.partitions]
        if held is not None and not any(step.emptied for step in ours):
            # What is kept was summed up under these settings; a worker compares them at start.
            after.currency, after.timezone = held.currency, held.timezone
            after.complaint_topics = held.complaint_topics
        replaced = {tp for step in ours for tp in step.replaced if tp.partition == number}
        _raise_generations(after, group, sorted(replaced))
        for step in ours:
            lost = step.finding
            after.accepted.append(
                Accepted(at, lost.kind.value, lost.place, lost.lost, step.resolved)
            )
        after.first_version = max(after.first_version, first_versions.get(number, 0))
        if held is not None:
            before = deepcopy(after)
            before.topics, before.marks = dict(held.topics), dict(held.marks)
            done.before[number] = before
        _drop_marks(after, ours)
        done.after[number] = after
    return done


def _drop_marks(basis: Basis, steps: Iterable[Step]) -> None:
    """Drop the marks of logs that are read again or were replaced."""
    for step in steps:
        for tp, offset in step.commits.items():
            mark = basis.marks.get(origin_key(tp))
            if mark is not None and (mark.offset >= offset or step.finding.kind is not Kind.CUT):
                del basis.marks[origin_key(tp)]


def _raise_generations(basis: Basis, group: Group, replaced: Iterable[TopicPartition]) -> None:
    for tp in replaced:
        key = origin_key(tp)
        generation = basis.generations.get(key, 0)
        if committed := group.here.committed.get(tp):
            basis.committed[origin_of(tp, generation)] = committed
        basis.generations[key] = generation + 1
