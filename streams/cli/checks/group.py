"""The consumer group: where it stands in the logs, and whether its state belongs to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from models.aggregate.record import ERASURE_KEY, UnreadableRecord
from streams.basis.examine import Group, bases_of, examine, standing
from streams.basis.findings import Finding, Kind
from streams.basis.judge import moment
from streams.basis.logs import KafkaLogs
from streams.basis.record import Basis
from streams.cli.checks.check import Check
from streams.cli.checks.erasure import key_of_state
from streams.kafka.clients import Admin
from streams.kafka.connection import Broker
from streams.kafka.groups import member_count
from streams.kafka.partitions import Bounds, TopicPartition, partitions_of
from streams.kafka.reading import log_client
from streams.kafka.topics import TopicFacts
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


async def group_checks(
    settings: Settings,
    broker: Broker,
    admin: Admin,
    facts: Sequence[TopicFacts],
    names: Collection[str],
) -> list[Check]:
    """Ask for offsets, and judge them; raises KafkaError."""
    counts = {each.name: each.partitions for each in facts}
    topics = settings.topics
    letters = partitions_of({topics.dead_letters: counts.get(topics.dead_letters, 0)})
    if not any(topic in counts for topic in topics.sources):
        return []
    logs = KafkaLogs(broker, admin, settings.app_id)
    here = await standing(settings, logs)
    try:
        bases = await bases_of(settings, logs, here.stored or (), TAIL_RECORDS)
    except UnreadableRecord as error:
        return [Check("basis", "fail", str(error))]
    changelog = changelog_topic(settings)
    parts = [TopicPartition(changelog, number) for number in here.stored or ()]
    keys = {
        tp.partition: data
        for tp, data in (await logs.latest(parts, ERASURE_KEY, TAIL_RECORDS)).items()
    }
    key_checks = list(key_of_state(settings, keys))
    if any(check.status == "fail" for check in key_checks):
        # Marks are keyed: by another key every log would seem to be another one.
        settings = settings.model_copy(update={"erasure_key": None})
    found = await examine(settings, logs, Group(here, bases))
    sources = here.sources(settings)
    bounds = await logs.bounds([*sources, *letters])
    since = int((time.time() - DAY) * 1000)
    recent: dict[TopicPartition, int | None] = {}
    if letters:
        async with log_client(broker) as client:
            recent = await client.offsets_at(dict.fromkeys(letters, since))
    committed = here.committed
    lag = sum(
        max(0, bounds[tp].end - max(bounds[tp].begin, committed.get(tp, 0))) for tp in sources
    )
    refused = sum(bounds[tp].end - at for tp, at in recent.items() if at is not None)
    return [
        *key_checks,
        *(Check(_CHECKS.get(f.kind, "basis"), "fail", str(f), f.remedy) for f in found),
        lag_check(settings, lag, await member_count(admin, settings.app_id)),
        *changelog_checks(settings, committed, names, here.stored or {}, found),
        *basis_checks(bases, found),
        letters_check(settings, sum(bounds[tp].length for tp in letters), refused),
    ]


def lag_check(settings: Settings, lag: int, workers: int | None) -> Check:
    """Judge how many records wait; workers: in the group, None if unknown."""
    found = f"{lag:,} records wait for group {settings.app_id}"
    if workers is not None:
        found += f", which has {workers} workers"
    if lag and workers == 0:
        return Check("lag", "warn", found, "start a worker: `clv worker`")
    return Check("lag", "ok", found)


def changelog_checks(
    settings: Settings,
    committed: Mapping[TopicPartition, int],
    names: Collection[str],
    stored: Mapping[int, Bounds],
    found: Sequence[Finding],
) -> Iterator[Check]:
    """Judge whether there is a state; stored: bounds of the changelog's partitions."""
    name, ours = "changelog", changelog_topic(settings)
    if any(finding.kind is Kind.STATE for finding in found):
        return
    if any(committed.values()):
        records = sum(each.length for each in stored.values())
        yield Check(name, "ok", f"{ours} holds {records:,} records")
        return
    end = f"-{TABLE_NAME}-changelog"
    others = sorted(each.removesuffix(end) for each in names if each.endswith(end) and each != ours)
    text = f"group {settings.app_id} has processed nothing yet"
    if others:
        text += f", and there is the state of {', '.join(others)}"
        advice = "see whether CLV_APP_ID is the one you mean: a new one begins at the first event"
        yield Check(name, "warn", text, advice)
    else:
        yield Check(name, "ok", text)


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
    """Judge the topic of dead letters: all records that are kept, and those of the last day."""
    name = "dead letters"
    if refused:
        found = f"{refused:,} refusals, notices and notes within a day; {kept:,} are kept"
        return Check(name, "warn", found, "see why by `clv dead-letters`")
    return Check(name, "ok", f"none within a day; {kept:,} in {settings.topics.dead_letters}")
