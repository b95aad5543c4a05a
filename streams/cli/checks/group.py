"""The consumer group: where it stands in the logs, and whether its state belongs to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP

from models.aggregate.record import ERASURE_KEY
from streams.basis.examine import Group, bases_of, examine, standing
from streams.basis.findings import Finding, Kind
from streams.basis.judge import moment
from streams.basis.logs import Bounds, KafkaLogs, reading_consumer
from streams.basis.record import Basis
from streams.cli.checks.check import Check
from streams.cli.checks.erasure import key_of_state
from streams.cli.checks.topics import TopicFacts
from streams.clients import started
from streams.connection import Broker
from streams.settings import Settings
from streams.topics import TABLE_NAME, changelog_topic

DAY = 24 * 3600

TAIL_RECORDS = 10_000
"""Of each partition of the changelog, in which its basis is looked for: a check must be quick."""

_CHECKS: Mapping[Kind, str] = {
    Kind.DELETED: "offsets",
    Kind.CUT: "offsets",
    Kind.REPLACED: "offsets",
    Kind.STATE: "changelog",
}
"""The check that a finding fails; the others: "basis"."""


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of an input: the offsets that its log has, and what the group has committed."""

    begin: int
    end: int
    committed: int


async def group_checks(
    settings: Settings,
    broker: Broker,
    admin: AIOKafkaAdminClient,
    facts: Sequence[TopicFacts],
    names: Collection[str],
) -> list[Check]:
    """Ask for offsets, and judge them; raises KafkaError."""
    counts = {each.name: each.partitions for each in facts}
    topics = settings.topics
    letters = _partitions(counts, [topics.dead_letters])
    if not any(topic in counts for topic in topics.sources):
        return []
    logs = KafkaLogs(broker, admin, settings.app_id)
    here = await standing(settings, logs)
    bases = await bases_of(settings, logs, here.stored or (), TAIL_RECORDS)
    changelog = changelog_topic(settings)
    parts = [TP(changelog, number) for number in here.stored or ()]
    keys = {
        tp.partition: data
        for tp, data in (await logs.latest(parts, ERASURE_KEY, TAIL_RECORDS)).items()
    }
    key_checks = list(key_of_state(settings, keys))
    if any(check.status == "fail" for check in key_checks):
        # Marks are keyed: by another key every log would seem to be another one.
        settings = settings.model_copy(update={"erasure_key": None})
    found = await examine(settings, logs, Group(here, bases))
    bounds = await logs.bounds([*here.sources(settings), *letters])
    since = int((time.time() - DAY) * 1000)
    recent = {}
    if letters:
        async with started(reading_consumer(broker)) as consumer:
            theirs = {TopicPartition(*tp): since for tp in letters}
            recent = await consumer.offsets_for_times(theirs)
    places = [Place(*bounds[tp], here.committed.get(tp, 0)) for tp in here.sources(settings)]
    refused = sum(bounds[TP(*tp)].end - at.offset for tp, at in recent.items() if at is not None)
    return [
        *key_checks,
        *finding_checks(found),
        lag_check(settings, places, await members(admin, settings.app_id)),
        *changelog_checks(settings, here.committed, names, here.stored or {}, found),
        *basis_checks(bases, found),
        letters_check(settings, sum(_length(bounds[tp]) for tp in letters), refused),
    ]


def finding_checks(found: Sequence[Finding]) -> Iterator[Check]:
    """What is lost or changed, each with its remedy."""
    for finding in found:
        yield Check(_CHECKS.get(finding.kind, "basis"), "fail", str(finding), finding.remedy)


def lag_check(settings: Settings, places: Sequence[Place], workers: int | None) -> Check:
    """Judge how much waits; workers: in the group, None if unknown."""
    lag = sum(p.end - max(p.begin, p.committed) for p in places if p.end > p.committed)
    found = f"{lag:,} records wait for group {settings.app_id}"
    if workers is not None:
        found += f", which has {workers} workers"
    if lag and workers == 0:
        return Check("lag", "warn", found, "start a worker: `clv worker`")
    return Check("lag", "ok", found)


def changelog_checks(
    settings: Settings,
    committed: Mapping[TP, int],
    names: Collection[str],
    stored: Mapping[int, Bounds],
    found: Sequence[Finding],
) -> Iterator[Check]:
    """Judge whether there is a state; stored: bounds of the changelog's partitions."""
    name, ours = "changelog", changelog_topic(settings)
    if any(finding.kind is Kind.STATE for finding in found):
        return
    if any(committed.values()):
        yield Check(name, "ok", f"{ours} holds {sum(map(_length, stored.values())):,} records")
        return
    others = sorted(
        each.removesuffix(f"-{TABLE_NAME}-changelog")
        for each in names
        if each.endswith(f"-{TABLE_NAME}-changelog") and each != ours
    )
    if others:
        yield Check(
            name,
            "warn",
            f"group {settings.app_id} has processed nothing yet, and there is the state of "
            f"{', '.join(others)}",
            "see whether CLV_APP_ID is the one you mean: a new one begins at the first event",
        )
    else:
        yield Check(name, "ok", f"group {settings.app_id} has processed nothing yet")


def basis_checks(bases: Mapping[int, Basis], found: Sequence[Finding]) -> Iterator[Check]:
    """Say what the state was built on, and which losses were accepted."""
    if bases and not any(_CHECKS.get(finding.kind) is None for finding in found):
        one = next(iter(bases.values()))
        text = f"{one.partitions} partitions, amounts in {one.currency}, days in {one.timezone}"
        yield Check("basis", "ok", f"the state was computed from {text}")
    accepted = {(each.at, each.place): each for basis in bases.values() for each in basis.accepted}
    for at, place in sorted(accepted):
        loss = accepted[at, place]
        text = f"{moment(at)}, {place}: {loss.lost}; {loss.resolved}"
        yield Check("accepted losses", "ok", text)


def letters_check(settings: Settings, kept: int, refused: int) -> Check:
    """Judge the dead letters: all that are kept, and those of the last day."""
    name = "dead letters"
    if refused:
        found = f"{refused:,} events were refused within a day; {kept:,} dead letters are kept"
        return Check(name, "warn", found, "see why by `clv dead-letters`")
    return Check(name, "ok", f"none within a day; {kept:,} in {settings.topics.dead_letters}")


async def members(admin: AIOKafkaAdminClient, group: str) -> int | None:
    """How many workers a group has; None where this user may not know."""
    try:
        responses: list[Any] = await admin.describe_consumer_groups([group])
    except KafkaError:
        # Without the right to describe the group, its offsets may still be read.
        return None
    described = [each for response in responses for each in response.groups if not each[0]]
    return len(described[0][5]) if described else None


def _partitions(counts: Mapping[str, int], topics: Sequence[str]) -> list[TP]:
    return [TP(topic, number) for topic in topics for number in range(counts.get(topic, 0))]


def _length(bounds: Bounds) -> int:
    return bounds.end - bounds.begin
