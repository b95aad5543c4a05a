"""Going on without what is lost: what is done about each loss, and what is written down of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from faust.types import TP

from streams.basis.examine import Group
from streams.basis.findings import ACCEPTABLE, Finding, Kind, place
from streams.basis.judge import Shop, adopt, origin_key
from streams.basis.logs import Bounds
from streams.basis.record import Accepted, Basis
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.transport.batches import origin_of

State = Literal["rebuild", "from-nothing"]
"""What to do about a state that is gone."""


class NotAcceptable(Exception):
    """These differences are no losses: they have another remedy, or more has to be said."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done about one loss.

    commits: offsets. partitions: whose basis says so. replaced: logs that count as others from now
    on. anew: whether new customers need versions above all that were published. emptied: whether
    what the changelog holds is deleted first.
    """

    finding: Finding
    resolved: str
    commits: Mapping[TP, int]
    partitions: frozenset[int]
    replaced: frozenset[TP] = frozenset()
    anew: bool = False
    emptied: bool = False


@dataclass(slots=True)
class Resolution:
    """What is to be written, in this order: `before`, offsets, `after`.

    before: bases in which the origins of replaced logs are other ones already, and by which the
    losses are found still: an end between two writes loses none of them.
    """

    steps: Sequence[Step]
    before: dict[int, Basis] = field(default_factory=dict)
    commits: dict[TP, int] = field(default_factory=dict)
    after: dict[int, Basis] = field(default_factory=dict)


def plan_steps(
    settings: Settings,
    group: Group,
    bounds: Mapping[TP, Bounds],
    found: Sequence[Finding],
    state: State | None,
) -> list[Step]:
    """What to do about the findings.

    bounds: of all logs that are read. state: what to do about a state that is gone.

    Raises
    ------
    NotAcceptable
        when something is no loss, or a state is gone and nothing is said of it.
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
    # What is computed anew is read from its beginning, whatever else was lost.
    ordered = sorted(found, key=lambda finding: finding.kind is Kind.STATE)
    return [_step(settings, group, bounds, finding, state) for finding in ordered]


def _step(
    settings: Settings,
    group: Group,
    bounds: Mapping[TP, Bounds],
    finding: Finding,
    state: State | None,
) -> Step:
    if finding.kind is Kind.STATE:
        return _state_step(settings, bounds, finding, state)
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
    settings: Settings, bounds: Mapping[TP, Bounds], finding: Finding, state: State | None
) -> Step:
    changelog = changelog_topic(settings)
    numbers = {tp.partition for tp in bounds}
    if finding.place != changelog:
        numbers = {n for n in numbers if finding.place == place(TP(changelog, n))}
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


def _was_read(group: Group, tp: TP) -> bool:
    basis = group.bases.get(tp.partition)
    marked = basis is not None and origin_key(tp) in basis.marks
    return marked or bool(group.here.committed.get(tp))


def _offsets(offsets: Mapping[TP, int]) -> str:
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
    """What has to be written to go on without what is lost.

    ids: of the topics as they are now. first_versions: the greatest version that was published, of
    partitions that begin anew. at: milliseconds since 1970.
    """
    done = Resolution(steps)
    for step in steps:
        done.commits.update(step.commits)
    for number in sorted({n for step in steps for n in step.partitions}):
        held = group.bases.get(number)
        after = deepcopy(adopt(held, shop, ids, ids))
        ours = [step for step in steps if number in step.partitions]
        _raise_generations(after, group, _of(number, ours))
        after.accepted += [_accepted(step, at) for step in ours]
        after.first_version = max(after.first_version, first_versions.get(number, 0))
        if held is not None:
            before = deepcopy(after)
            before.topics, before.marks = dict(held.topics), dict(held.marks)
            done.before[number] = before
        _drop_marks(after, ours)
        done.after[number] = after
    return done


def _of(number: int, steps: Iterable[Step]) -> list[TP]:
    replaced = {tp for step in steps for tp in step.replaced}
    return sorted(tp for tp in replaced if tp.partition == number)


def _drop_marks(basis: Basis, steps: Iterable[Step]) -> None:
    """Forget the marks of what is read again, and of logs that are others now."""
    for step in steps:
        for tp, offset in step.commits.items():
            mark = basis.marks.get(origin_key(tp))
            again = mark is not None and mark.offset >= offset
            if again or (mark is not None and step.finding.kind is not Kind.CUT):
                del basis.marks[origin_key(tp)]


def _raise_generations(basis: Basis, group: Group, replaced: Iterable[TP]) -> None:
    for tp in replaced:
        key = origin_key(tp)
        generation = basis.generations.get(key, 0)
        if committed := group.here.committed.get(tp):
            basis.told[origin_of(tp, generation)] = committed
        basis.generations[key] = generation + 1


def _accepted(step: Step, at: int) -> Accepted:
    finding = step.finding
    return Accepted(at, finding.kind.value, finding.place, finding.lost, step.resolved)
