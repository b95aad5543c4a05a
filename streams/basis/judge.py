"""Judge whether the broker still has the logs that a state was built on: pure, without I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from msgspec.structs import replace

from models.economics import Economics
from streams.basis.findings import Finding, Kind, place
from streams.basis.record import Basis, Mark
from streams.kafka.partitions import TopicPartition

_ACCEPT = "stop all workers and see `clv accept-loss`, which goes on without what is lost"
_AGAIN = "publish the lost events again from the shop (events that were counted already count once)"
_RESTORE = (
    "restore the changelog from a copy, or stop all workers and see `clv accept-loss`: with "
    "--rebuild it has everything computed anew from the events that are kept, with --from-nothing "
    "the service goes on with what the changelog holds"
)


@dataclass(frozen=True, slots=True)
class Shop:
    """The present settings and topics that a state depends on."""

    partitions: int
    currency: str
    timezone: str
    complaint_topics: tuple[str, ...]

    @classmethod
    def of(cls, partitions: int, economics: Economics) -> Self:
        """Return the shop with these settings."""
        topics = tuple(sorted(economics.complaint_topics))
        return cls(partitions, economics.currency, economics.timezone, topics)


@dataclass(frozen=True, slots=True)
class Log:
    """A topic-partition of an input: what the broker has, and the group's committed offset.

    topic_id: "" if the broker gives none. begin, end: offsets of the first record and after the
    last. committed: None if nothing is committed. at_mark: the first record at or after the offset
    of the basis' mark, None if there is none. first_at: time of the first record (ms since 1970).
    """

    tp: TopicPartition
    topic_id: str
    begin: int
    end: int
    committed: int | None = None
    at_mark: Mark | None = None
    first_at: int | None = None


def origin_key(tp: TopicPartition) -> str:
    """Return a log's key in a basis: "topic/partition"."""
    return f"{tp.topic}/{tp.partition}"


def judge_shop(basis: Basis, shop: Shop) -> Iterator[Finding]:
    """Compare what a state was built on with the present topics."""
    if basis.partitions != shop.partitions:
        yield _partitions(basis.partitions, shop.partitions)


def _partitions(before: int, now: int) -> Finding:
    if now > before:
        return Finding(
            Kind.PARTITIONS,
            "topics",
            f"they were grown from {before} to {now} partitions: customers would be split in two, "
            "since their events go to other partitions now than their state is in",
            f"stop all workers and run `clv partitions grow {now}`, which moves the customers",
        )
    return Finding(
        Kind.PARTITIONS,
        "topics",
        f"they have {now} partitions, and the state was computed from {before}: they were deleted "
        "and made anew with fewer",
        f"stop all workers, make the topics with {before} partitions, and see `clv accept-loss`",
    )


def judge_growth(known: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Finding]:
    """Find topics that have more partitions than when the worker started."""
    grown = {topic: count for topic, count in found.items() if count > known.get(topic, count)}
    if grown:
        most = max(grown.values())
        listed = ", ".join(f"{topic} from {known[topic]} to {n}" for topic, n in grown.items())
        yield Finding(
            Kind.PARTITIONS,
            "topics",
            f"these were grown: {listed} partitions. Nobody reads the new ones, and customers "
            "would be split in two",
            f"stop all workers and run `clv partitions grow {most}`, which moves the customers",
        )


def judge_log(log: Log, basis: Basis | None) -> Finding | None:
    """Return what a log has lost of the records that were read, and of those still to be read."""
    key = origin_key(log.tp)
    mark = None if basis is None else basis.marks.get(key)
    committed = log.committed or 0
    read = max(committed, 0 if mark is None else mark.offset + 1)
    if not read:
        # Another log, but nothing in the state is from it.
        return None
    known = "" if basis is None else basis.topics.get(log.tp.topic, "")
    another = bool(known and log.topic_id and known != log.topic_id)
    same: bool | None = None
    if mark is not None and log.begin <= mark.offset < log.end:
        same = log.at_mark == mark
    if same is False or (another and not same):
        return _replaced(log, mark, read, another=another)
    if log.end < read:
        return _cut(log, read, mark.offset + 1 if mark is not None and same else log.begin)
    # If the group's offsets have expired, reading starts at the first record.
    next_read = committed or read
    if log.begin > next_read:
        return _deleted(log, next_read)
    return None


def _replaced(log: Log, mark: Mark | None, read: int, *, another: bool) -> Finding:
    if another:
        why = "the topic was deleted and made anew (its id is another)"
    elif mark is not None and log.at_mark is not None and log.at_mark.offset == mark.offset:
        why = f"another record is at offset {mark.offset:,} than the one that was processed"
    else:
        why = f"the record at offset {mark.offset if mark else 0:,} that was processed is gone"
    return Finding(
        Kind.REPLACED,
        place(log.tp),
        f"{why}; {read:,} records of the former log were processed up to offset {read - 1:,}, the "
        f"log now has offsets {log.begin:,} to {log.end - 1:,}, and its records would be taken for "
        "replays"
        if log.end > log.begin
        else f"{why}; records were processed up to offset {read - 1:,}, the log is empty now, and "
        "new records would be taken for replays",
        f"restore the topic from a copy, or {_ACCEPT} and reads the new log from its beginning",
        log.tp,
        log.begin,
    )


def _cut(log: Log, read: int, go_on: int) -> Finding:
    return Finding(
        Kind.CUT,
        place(log.tp),
        f"the log ends at offset {log.end:,}, and {read:,} was reached before: {read - log.end:,} "
        "records at its end are lost (a node came back with less, or the topic was restored from "
        "an older copy), and new events at their offsets would be taken for replays",
        f"bring back the node that has them, or {_ACCEPT}; then {_AGAIN}",
        log.tp,
        go_on,
    )


def _deleted(log: Log, next_read: int) -> Finding:
    first = "" if log.first_at is None else f", and is of {moment(log.first_at)}"
    return Finding(
        Kind.DELETED,
        place(log.tp),
        f"{log.begin - next_read:,} records, offsets {next_read:,} to {log.begin - 1:,}, were "
        f"deleted before they were processed; the first that is still there is {log.begin:,}"
        f"{first}",
        f"set retention.ms=-1 on the input topics, {_ACCEPT}, and {_AGAIN}",
        log.tp,
        log.begin,
    )


def judge_missing(
    topics: Collection[str], committed: Mapping[TopicPartition, int], bases: Iterable[Basis]
) -> Iterator[Finding]:
    """Find input topics that are missing although the state was built on them."""
    read = {tp.topic for tp, offset in committed.items() if offset}
    for basis in bases:
        read |= {key.rpartition("/")[0] for key in basis.marks}
    for topic in sorted(read.intersection(topics)):
        yield Finding(
            Kind.REPLACED,
            topic,
            "the topic is gone, and its events were processed; in a new one the records would be "
            "taken for replays",
            f"restore the topic from a copy, or {_ACCEPT} and begins with an empty one",
        )


def judge_state(
    changelog: str, stored: Mapping[int, int] | None, committed: Mapping[TopicPartition, int]
) -> Finding | None:
    """Return a finding if all of the state is gone.

    stored: records in each partition of the changelog, None if the topic is missing. committed:
    offsets of the inputs; without the clock, which every partition has.
    """
    if stored is not None and any(stored.values()):
        return None
    return _state(changelog, "is missing" if stored is None else "is empty", committed)


def judge_changelog(changelog: str, topic_id: str, basis: Basis) -> Finding | None:
    """Return a finding if the changelog is not the one that the basis names."""
    known = basis.topics.get(changelog, "")
    if not (known and topic_id and known != topic_id):
        return None
    return Finding(
        Kind.STATE,
        changelog,
        "the topic was deleted and made anew (its id is another): it holds at most what changed "
        "since, and the customers' past would be missing from every value",
        _RESTORE,
    )


def judge_partition(
    changelog: TopicPartition, committed: Mapping[TopicPartition, int]
) -> Finding | None:
    """Return a finding if the state of a partition without a basis is gone.

    Other partitions have a basis, so this one had one too if anything was processed. committed:
    as in `judge_state`.
    """
    number = changelog.partition
    ours = {tp: offset for tp, offset in committed.items() if tp.partition == number}
    return _state(place(changelog), "has no state", ours)


def _state(where: str, what: str, committed: Mapping[TopicPartition, int]) -> Finding | None:
    begun = [f"{place(tp)} to {offset:,}" for tp, offset in sorted(committed.items()) if offset]
    if not begun:
        return None
    listed = ", ".join(begun)
    return Finding(
        Kind.STATE,
        where,
        f"it {what}, but events were processed: {listed}. They would be missing from every value",
        _RESTORE,
    )


def judge_logs(logs: Iterable[Log], bases: Mapping[int, Basis], clock: str) -> list[Finding]:
    """Return what these logs have lost.

    bases: by partition. clock: topic of ticks; a tick that was deleted unread is no loss, because
    the next one makes up for it.
    """
    found = (judge_log(log, bases.get(log.tp.partition)) for log in logs)
    return [
        finding
        for finding in found
        if finding is not None
        and not (finding.kind is Kind.DELETED and finding.tp and finding.tp.topic == clock)
    ]


def moment(milliseconds: int) -> str:
    """Format a time for people."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def adopt(
    basis: Basis | None, shop: Shop, topics: Mapping[str, str], names: Collection[str]
) -> Basis:
    """Return the basis with the present settings and ids of topics, or a new basis."""
    ids = {topic: topics.get(topic, "") for topic in names}
    if basis is None:
        return _with_settings(Basis(shop.partitions, ids, {}, "", ""), shop)
    kept = {topic: ids[topic] or basis.topics.get(topic, "") for topic in ids}
    return _with_settings(replace(basis, topics=kept), shop)


def _with_settings(basis: Basis, shop: Shop) -> Basis:
    return replace(
        basis,
        currency=shop.currency,
        timezone=shop.timezone,
        complaint_topics=list(shop.complaint_topics),
    )
