"""Judging the topics: pure, from what the broker said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streams.cli.checks.check import Check, Status
from streams.kafka.topics import TopicFacts, TopicPlan
from streams.retention import TOMBSTONES_STAY_MS
from streams.settings import Settings
from streams.topics import changelog_topic, co_partitioned, plan, uneven

SAFE_REPLICATION = 3


def topic_checks(settings: Settings, facts: Sequence[TopicFacts], brokers: int) -> Iterator[Check]:
    """Judge partition counts, replication and settings of the topics that are there."""
    yield _counts(settings, facts)
    if not facts:
        return
    yield _replicas(settings, facts, brokers)
    planned = {topic.name: topic for topic in plan(settings)}
    known = [(planned[each.name], each) for each in facts]
    if not any(each.config for each in facts):
        advice = "let this user describe topics' configuration, or look yourself"
        yield Check("cleanup policies", "warn", "the broker does not tell", advice)
        return
    yield _policies(settings, known)
    data = [pair for pair in known if pair[1].name != settings.topics.clock]
    yield _retention(data)
    yield _tombstones(known)
    yield _erasures(data)
    yield _sizes(known)
    yield from _in_sync(facts)


def _counts(settings: Settings, facts: Sequence[TopicFacts]) -> Check:
    counts = {each.name: each.partitions for each in facts}
    known = {name: counts[name] for name in co_partitioned(settings) if name in counts}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in known.items())
        advice = uneven(counts, changelog_topic(settings))
        return Check("topics", "fail", f"partition counts differ: {listed}", advice)
    missing = [each.name for each in plan(settings) if each.name not in counts]
    if missing:
        advice = "the first worker, or `clv load`, creates them, unless this user may not see them"
        return Check("topics", "warn", f"missing: {', '.join(missing)}", advice)
    partitions = next(iter(known.values()))
    return Check("topics", "ok", f"all {len(counts)} are there, with {partitions} partitions each")


def _replicas(settings: Settings, facts: Sequence[TopicFacts], brokers: int) -> Check:
    name = "replication"
    if leaderless := [each.name for each in facts if each.leaderless]:
        advice = "start the brokers that hold them: nothing can be read or written there"
        return Check(
            name, "fail", f"partitions without a leader in {', '.join(leaderless)}", advice
        )
    if behind := [each.name for each in facts if each.out_of_sync]:
        advice = "see whether a broker is down: until it is back, one more loss costs records"
        return Check(name, "warn", f"replicas are out of sync in {', '.join(behind)}", advice)
    wanted = settings.replication
    if brokers >= SAFE_REPLICATION:
        wanted = max(wanted, 2)
    few = [f"{each.name}: {each.replicas}" for each in facts if each.replicas < wanted]
    if few:
        advice = (
            f"give them {max(wanted, SAFE_REPLICATION)} replicas (kafka-reassign-partitions) and "
            "set CLV_REPLICATION: a lost disk loses their records"
        )
        return Check(name, "warn", f"{brokers} brokers, but {', '.join(few)}", advice)
    if settings.replication > brokers:
        advice = "start more brokers, or lower CLV_REPLICATION: new topics cannot be created"
        found = f"CLV_REPLICATION is {settings.replication}, but there are {brokers} brokers"
        return Check(name, "warn", found, advice)
    least = min(each.replicas for each in facts)
    return Check(name, "ok", f"at least {least} of each partition, on {brokers} brokers")


def _in_sync(facts: Sequence[TopicFacts]) -> Iterator[Check]:
    name = "min.insync.replicas"
    found = [(each, least) for each in facts if (least := each.number(name)) is not None]
    if not found:
        return
    if bad := [f"{e.name}: {least} of {e.replicas}" for e, least in found if least > e.replicas]:
        yield Check(name, "fail", ", ".join(bad), f"lower {name}: no write to them is accepted")
        return
    if bad := [
        f"{e.name}: {least} of {e.replicas}" for e, least in found if 1 < e.replicas == least
    ]:
        advice = f"lower {name} to one less than the replicas: one broker away stops all writes"
        yield Check(name, "warn", ", ".join(bad), advice)
        return
    if bad := [f"{e.name}: 1 of {e.replicas}" for e, least in found if least < 2 < e.replicas]:
        advice = f"set {name}=2: a record acknowledged by one broker alone is lost with it"
        yield Check(name, "warn", ", ".join(bad), advice)
        return
    yield Check(name, "ok", f"right for {len(found)} topics")


def _verdict(
    name: str, status: Status, problems: Sequence[str], advice: str, otherwise: str
) -> Check:
    if problems:
        return Check(name, status, "; ".join(problems), advice)
    return Check(name, "ok", otherwise)


def _policies(settings: Settings, known: Sequence[tuple[TopicPlan, TopicFacts]]) -> Check:
    wrong, told = [], 0
    advice = "set cleanup.policy: what must be kept would be deleted, or events compacted away"
    for planned, topic in known:
        policy = (topic.config or {}).get("cleanup.policy")
        if policy is None:
            continue
        told += 1
        wanted = planned.config.get("cleanup.policy", "delete")
        if set(policy.replace(" ", "").split(",")) != {wanted}:
            wrong.append(f"{topic.name} has {policy}, not {wanted}")
            if topic.name == changelog_topic(settings):
                advice += "; the changelog is the state, and what is deleted from it is lost"
    return _verdict("cleanup policies", "fail", wrong, advice, f"right for {told} topics")


def _retention(known: Sequence[tuple[TopicPlan, TopicFacts]]) -> Check:
    short = []
    for planned, topic in known:
        if "retention.ms" not in planned.config:
            continue
        wanted, found = int(planned.config["retention.ms"]), topic.number("retention.ms")
        if found is not None and found >= 0 and (wanted < 0 or found < wanted):
            short.append(f"{topic.name} keeps {found / 86_400_000:g} days")
        size = topic.number("retention.bytes")
        if size is not None and size >= 0:
            short.append(f"{topic.name} keeps {size:,} bytes of each partition")
    advice = (
        "set retention.ms=-1 and retention.bytes=-1: values cannot be computed anew from events "
        "that are deleted"
    )
    fine = "events are kept for a computation from the beginning"
    return _verdict("retention", "warn", short, advice, fine)


def _less_than_planned(
    known: Sequence[tuple[TopicPlan, TopicFacts]], name: str
) -> Iterator[tuple[str, int, int]]:
    """Topics with less of a setting than planned: the topic, what it has, and what is planned."""
    for planned, topic in known:
        wanted, found = planned.config.get(name), topic.number(name)
        if wanted is not None and found is not None and found < int(wanted):
            yield topic.name, found, int(wanted)


def _tombstones(known: Sequence[tuple[TopicPlan, TopicFacts]]) -> Check:
    name = "delete.retention.ms"
    short = [
        f"{topic} keeps tombstones for {found / 3_600_000:g} h"
        for topic, found, _ in _less_than_planned(known, name)
    ]
    advice = (
        f"set {name}={TOMBSTONES_STAY_MS}: a Redis that comes back from a copy would keep "
        "customers who were erased since"
    )
    return _verdict(name, "warn", short, advice, "tombstones stay for a day")


def _erasures(known: Sequence[tuple[TopicPlan, TopicFacts]]) -> Check:
    """Judge whether what the service wrote of a customer who is erased goes by itself."""
    long = []
    for planned, topic in known:
        for setting in ("retention.ms", "max.compaction.lag.ms"):
            wanted, found = planned.config.get(setting), topic.number(setting)
            if wanted is None or found is None or int(wanted) < 0:
                continue
            if found < 0 or found > int(wanted):
                long.append(f"{topic.name} has {setting}={found}, not {wanted}")
    advice = (
        "set it by kafka-configs.sh --alter: until then what was written of a customer stays "
        "longer than docs/erasure.md says"
    )
    fine = "what the service wrote of them goes within the time that is planned"
    return _verdict("traces of the erased", "warn", long, advice, fine)


def _sizes(known: Sequence[tuple[TopicPlan, TopicFacts]]) -> Check:
    name = "max.message.bytes"
    small = [
        f"{topic} takes {found:,}, not {wanted:,}"
        for topic, found, wanted in _less_than_planned(known, name)
    ]
    advice = f"raise {name}: a worker stops at the first record that is larger"
    return _verdict(name, "fail", small, advice, "large enough where large records are written")
