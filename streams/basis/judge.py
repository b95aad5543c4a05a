"""Judging whether the broker still has what a state was computed from: pure, without I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from faust.types import TP

from streams.basis.findings import Finding, Kind, place
from streams.basis.record import Basis, Mark

_ACCEPT = "stop all workers and see `clv accept-loss`, which goes on without what is lost"
_AGAIN = "publish the lost events again from the shop (events that were counted already count once)"
_RESTORE = (
    "restore the changelog from a copy, or stop all workers and see `clv accept-loss`: with "
    "--rebuild it has everything computed anew from the events that are kept, with --from-nothing "
    "the service goes on with what the changelog holds"
)


@dataclass(frozen=True, slots=True)
class Shop:
    """What a state is computed with, as it is configured and found now."""

    partitions: int
    currency: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Log:
    """A topic-partition of an input: what the broker has, and where the group stands.

    topic_id: "" where the broker tells none. begin, end: offsets of the first record and after the
    last. committed: None where nothing is. at_mark: what is now at the offset of the basis' mark or
    after it, None where nothing is. first_at: time of the first record, in milliseconds since 1970.
    """

    tp: TP
    topic_id: str
    begin: int
    end: int
    committed: int | None = None
    at_mark: Mark | None = None
    first_at: int | None = None


def origin_key(tp: TP) -> str:
    """How a log is called in a basis: "topic/partition"."""
    return f"{tp.topic}/{tp.partition}"


def judge_shop(basis: Basis, shop: Shop) -> Iterator[Finding]:
    """What a state was computed with against what is there now."""
    if basis.partitions != shop.partitions:
        yield _partitions(basis.partitions, shop.partitions)
    if basis.currency != shop.currency:
        yield Finding(
            Kind.CURRENCY,
            "CLV_ECONOMICS__CURRENCY",
            f"the state holds amounts in {basis.currency}, the currency is {shop.currency} now",
            f"set CLV_ECONOMICS__CURRENCY={basis.currency}; amounts that are summed up cannot be "
            "converted, so that another currency is another service, with topics and a CLV_APP_ID "
            "of its own",
        )
    if basis.timezone != shop.timezone:
        yield Finding(
            Kind.TIMEZONE,
            "CLV_ECONOMICS__TIMEZONE",
            f"the state counts days in {basis.timezone}, the time zone is {shop.timezone} now",
            f"set CLV_ECONOMICS__TIMEZONE={basis.timezone}; events that are summed up by the day "
            "cannot be moved to other days",
        )


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
    """Topics that have more partitions than the worker was started with."""
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
    """What a log has lost of what was read from it, and of what is to be read."""
    key = origin_key(log.tp)
    mark = None if basis is None else basis.marks.get(key)
    committed = log.committed or 0
    read = max(committed, 0 if mark is None else mark.offset + 1)
    if not read:
        # Whatever it was, nothing in the state is from it.
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
    # Where the group's offsets have expired, reading begins at the first record there is.
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
    topics: Collection[str], committed: Mapping[TP, int], bases: Iterable[Basis]
) -> Iterator[Finding]:
    """Input topics that are not there though the state was computed from them."""
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
    changelog: str, stored: Mapping[int, int] | None, committed: Mapping[TP, int]
) -> Finding | None:
    """Whether all of the state is gone.

    stored: records in each partition of the changelog, None without the topic. committed: of the
    inputs, without the clock, of which every partition has some.
    """
    begun = {tp: offset for tp, offset in committed.items() if offset}
    if not begun or (stored is not None and any(stored.values())):
        return None
    what = "is missing" if stored is None else "is empty"
    return _state(changelog, what, begun)


def judge_changelog(changelog: str, topic_id: str, basis: Basis) -> Finding | None:
    """Whether what is stored is in the changelog that it was written to at first."""
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


def judge_partition(changelog: TP, committed: Mapping[TP, int]) -> Finding | None:
    """Whether a partition's state is gone, of which nothing was found.

    Others have a basis, so that this one had one too, if anything was processed.
    """
    begun = {tp: offset for tp, offset in committed.items() if offset}
    return _state(place(changelog), "has no state", begun) if begun else None


def _state(where: str, what: str, begun: Mapping[TP, int]) -> Finding:
    listed = ", ".join(f"{place(tp)} to {offset:,}" for tp, offset in sorted(begun.items()))
    return Finding(
        Kind.STATE,
        where,
        f"it {what}, but events were processed: {listed}. They would be missing from every value",
        _RESTORE,
    )


def judge_logs(logs: Iterable[Log], bases: Mapping[int, Basis], clock: str) -> list[Finding]:
    """What all of these logs have lost.

    bases: by partition, where there is one. clock: topic of ticks; one that is deleted unread is
    made up for by the next.
    """
    found = (judge_log(log, bases.get(log.tp.partition)) for log in logs)
    return [
        finding
        for finding in found
        if finding is not None
        and not (finding.kind is Kind.DELETED and finding.tp and finding.tp.topic == clock)
    ]


def moment(milliseconds: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def adopt(
    basis: Basis | None, shop: Shop, topics: Mapping[str, str], names: Collection[str]
) -> Basis:
    """The basis from now on: the same with the topics' ids as they are, or a new one."""
    ids = {topic: topics.get(topic, "") for topic in names}
    if basis is None:
        return Basis(shop.partitions, ids, {}, shop.currency, shop.timezone)
    kept = {topic: ids[topic] or basis.topics.get(topic, "") for topic in ids}
    return Basis(
        partitions=basis.partitions,
        topics=kept,
        generations=basis.generations,
        currency=basis.currency,
        timezone=basis.timezone,
        first_version=basis.first_version,
        marks=basis.marks,
        told=basis.told,
        accepted=basis.accepted,
    )
