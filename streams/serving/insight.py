"""The routes that read more than Redis holds: history, outlook, flows and cohorts."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from models.aggregate.past import known_since
from models.aggregate.record import CustomerRecord
from models.calendar import EPOCH_ORDINAL
from models.context import Interpretation
from models.documents import moment
from models.outlook import YEAR, Turn, Worth, history, outlook, past_moments
from streams.serving.clock import now_of
from streams.serving.problems import RETRY_SECONDS, Problem, documented
from streams.serving.sources import Sources

WAIT_SECONDS = 10.0

COHORTS_SECONDS = 30.0
"""A new server has to start the process that sums."""

_FIRST_DAY, _LAST_DAY = date.min.toordinal(), date.max.toordinal()


class Day(BaseModel):
    """What a customer is or was worth as of a time, in the reporting currency.

    p_alive, p_purchase: null before the first order. p_purchase: within 365 days.
    """

    as_of: datetime
    clv: float
    realised: float
    expected: float
    p_alive: float | None
    p_purchase: float | None


class NextSegment(BaseModel):
    """since: when the customer entered the segment; null if not known.

    next, at: which segment comes, and when; at is null if none comes within the days.
    """

    segment: str
    since: datetime | None
    next: str | None
    at: datetime | None


class NextDue(BaseModel):
    """When a customer's segments change next if nothing happens, and which come, by dimension.

    at: before now, it is told as soon as somebody looks. A segment is null if the rules have the
    dimension no more then.
    """

    at: datetime
    segments: dict[str, str | None]


class CustomerOutlook(BaseModel):
    """A customer day by day from now on, if nothing more happens; segments: by dimension.

    next_due: null if no segment changes within the days.
    """

    customer_id: str
    currency: str
    days: list[Day]
    next_due: NextDue | None
    segments: dict[str, NextSegment]


class CustomerHistory(BaseModel):
    """A customer on past days. known_since: before it what happened is known as sums only.

    Null: everything is known. Values are by the parameters in force then.
    """

    customer_id: str
    currency: str
    known_since: datetime | None
    days: list[Day]


class SegmentFlow(BaseModel):
    """Customers who went from a segment to another, and their value together afterwards.

    previous: null for new ones. current: null if the rules have the dimension no more.
    """

    dimension: str
    previous: str | None
    current: str | None
    customers: int
    value: float


class SegmentFlows(BaseModel):
    """Changes of segment from one day to another, both included, by their as-of time.

    counted: the share of the topic that is read; below 1 just after a start.
    """

    currency: str
    first: date | None
    last: date | None
    counted: float
    flows: list[SegmentFlow]


class CohortDocument(BaseModel):
    """Customers by the month of their first order; null for those without one.

    paid_back: the month, 1 for the first, by whose end they had earned their acquisition cost.
    by_month: what they had earned before it by the end of each month. at_latest: customers of whom
    a part of what they earned is dated too late, since only its sum is known.
    """

    month: str | None
    customers: int
    realised: float
    expected: float
    acquisition_cost: float
    paid_back: int | None
    by_month: list[float]
    at_latest: int


class CohortsDocument(BaseModel):
    """All cohorts. at: when they were summed; as_of: up to when, by the customers' own time."""

    currency: str
    at: datetime
    as_of: datetime
    cohorts: list[CohortDocument]


async def record_of(sources: Sources, customer_id: str) -> CustomerRecord:
    """Return a customer's stored record. Errors: Problem, RedisError, KafkaError, OSError."""
    score = await sources.cache.get(customer_id)
    if score is None:
        raise absent(customer_id)
    record = await sources.stored.of(score)
    if record is None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"the state of customer {customer_id!r} is not in the changelog: they are being "
            "removed, or Redis is older than Kafka; ask again, or run `clv rebuild-cache`",
        )
    return record


def absent(customer_id: str) -> Problem:
    """Return the error for a customer who is not there."""
    return Problem(
        HTTPStatus.NOT_FOUND,
        f"there is no customer {customer_id!r}: check the id; `clv show` says whether "
        "events of theirs were refused",
    )


async def interpretation(sources: Sources) -> Interpretation:
    """Return what customers are scored with. Errors: Problem, while Kafka is away."""
    try:
        return await sources.following.interpretation(WAIT_SECONDS)
    except TimeoutError:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "parameters and rules are not read yet; ask again, and see /health and the log",
            {"Retry-After": str(RETRY_SECONDS)},
        ) from None


def add_routes(v1: APIRouter, sources: Sources) -> None:
    """Add the routes."""
    currency = sources.settings.economics.currency
    missing = documented(HTTPStatus.NOT_FOUND)

    @v1.get("/outlook/{customer_id:path}", response_model=CustomerOutlook, responses=missing)
    async def customer_outlook(
        customer_id: str, days: Annotated[int, Query(ge=1, le=3 * YEAR)] = YEAR
    ) -> CustomerOutlook:
        """Return what becomes of a customer day by day if nothing more happens."""
        record = await record_of(sources, customer_id)
        by, now = await interpretation(sources), now_of(sources.settings)
        # Some 10 ms, and 50 ms for three years; in a thread, so that others are answered meanwhile.
        found = await to_thread(outlook, record, by, days, now=now)
        return CustomerOutlook(
            customer_id=customer_id,
            currency=currency,
            days=days_of(found.days),
            next_due=_next_due(found.due),
            segments={turn.dimension: _next(turn) for turn in found.turns},
        )

    @v1.get("/history/{customer_id:path}", response_model=CustomerHistory, responses=missing)
    async def customer_history(customer_id: str, on: date | None = None) -> CustomerHistory:
        """Return what a customer was worth on past days, or by the end of one day."""
        record = await record_of(sources, customer_id)
        by = await interpretation(sources)
        since = known_since(record.aggregate)
        if on is None:
            moments = past_moments(record, by.economics)
        else:
            moments = [_end_of(on, record, by)]
            if since is not None and moments[0] < since:
                raise Problem(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"on: what happened until {moment(since).isoformat()} is known as sums only; "
                    "ask for a later day",
                )
        return CustomerHistory(
            customer_id=customer_id,
            currency=currency,
            known_since=None if since is None else moment(since),
            days=days_of(await to_thread(lambda: list(history(record, moments, by)))),
        )

    @v1.get("/flows", response_model=SegmentFlows)
    async def flows(first: date | None = None, last: date | None = None) -> SegmentFlows:
        """Return how many customers went from which segment to which."""
        changes = sources.following.changes
        known = changes.days or (None, None)
        begin = known[0] if first is None else first.toordinal()
        end = known[1] if last is None else last.toordinal()
        found = changes.flows(
            _FIRST_DAY if begin is None else begin, _LAST_DAY if end is None else end
        )
        return SegmentFlows(
            currency=currency,
            first=None if begin is None else date.fromordinal(begin),
            last=None if end is None else date.fromordinal(end),
            counted=changes.progress,
            flows=[
                SegmentFlow(
                    dimension=step.dimension,
                    previous=step.previous,
                    current=step.current,
                    customers=flow.customers,
                    value=flow.value_cents / 100,
                )
                for step, flow in found.items()
            ],
        )

    @v1.get("/cohorts", response_model=CohortsDocument)
    async def cohorts() -> CohortsDocument:
        """Return customers by the month of their first order."""
        survey = await sources.surveys.get(COHORTS_SECONDS)
        if survey is None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the customers are not summed yet {sources.surveys.why}".rstrip() + "; ask again",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        return CohortsDocument(
            currency=currency,
            at=survey.at,
            as_of=moment(survey.as_of),
            cohorts=[
                CohortDocument(**each._asdict() | {"month": each.month or None})
                for each in survey.cohorts
            ],
        )


def days_of(worth: Sequence[Worth]) -> list[Day]:
    """Return days as the API answers them."""
    return [Day(**each._asdict() | {"as_of": moment(each.as_of)}) for each in worth]


def _next_due(turns: Sequence[Turn]) -> NextDue | None:
    if not turns or turns[0].at is None:
        return None
    segments = {turn.dimension: turn.next for turn in turns}
    return NextDue(at=moment(turns[0].at), segments=segments)


def _next(turn: Turn) -> NextSegment:
    return NextSegment(
        segment=turn.segment,
        since=None if turn.since is None else moment(turn.since),
        next=turn.next,
        at=None if turn.at is None else moment(turn.at),
    )


def _end_of(day: date, record: CustomerRecord, by: Interpretation) -> int:
    """Return the last millisecond of a day, or the as-of time of the record if that is earlier."""
    if not EPOCH_ORDINAL <= day.toordinal() < _LAST_DAY:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"on: {day} is not a day of this service")
    return min(by.economics.day_begins(day.toordinal() + 1) - 1, record.as_of)
