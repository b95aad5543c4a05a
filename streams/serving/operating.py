"""The routes for who operates the service: how far the workers are, and what they refused."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import BaseModel

from streams.dead_letters.letter import Letter
from streams.serving.operations import Operations
from streams.serving.problems import RETRY_SECONDS, Problem
from streams.serving.sources import Sources

WAIT_SECONDS = 10.0


class PartitionDocument(BaseModel):
    """A partition of an input. end: its next offset; behind: records not committed yet."""

    topic: str
    partition: int
    end: int
    behind: int


class DeadLetterDocument(BaseModel):
    """A refused record. id: partition/offset within the topic of dead letters.

    came_from: topic[partition]@offset of the record.
    """

    id: str
    refused_at: datetime
    reason: str
    message: str
    came_from: str


class OperationsDocument(BaseModel):
    """How far the workers are. at: when Kafka was asked.

    workers: members of the consumer group; null where that may not be known. events_per_second,
    published_per_second: over half a minute; null before the second look. standing_still_seconds:
    for how long none of the waiting events was processed. dead_letters: those not sent again, among
    the last of each partition, by reason; newest: of these.
    """

    at: datetime
    workers: int | None
    events_per_second: float | None
    published_per_second: float | None
    behind: int
    standing_still_seconds: float
    partitions: list[PartitionDocument]
    dead_letters: dict[str, int]
    newest: list[DeadLetterDocument]


def add_routes(v1: APIRouter, sources: Sources) -> None:
    """Add the routes."""
    looks = sources.following.looks

    @v1.get("/operations", response_model=OperationsDocument)
    async def operations() -> OperationsDocument:
        """Return how far the workers are, and what was refused lately."""
        found = await looks.first(WAIT_SECONDS)
        if found is None or looks.outage.since is not None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"Kafka has not said how far the workers are {looks.outage.why}".rstrip()
                + "; ask again, and see the log",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        return _document(found)


def _document(found: Operations) -> OperationsDocument:
    return OperationsDocument(
        at=found.at,
        workers=found.workers,
        events_per_second=found.pace.processed,
        published_per_second=found.pace.published,
        behind=found.behind,
        standing_still_seconds=found.pace.still,
        partitions=[
            PartitionDocument(
                topic=each.partition.topic,
                partition=each.partition.partition,
                end=each.end,
                behind=each.behind,
            )
            for each in found.partitions
        ],
        dead_letters=dict(found.refused.reasons),
        newest=[_letter(each) for each in found.refused.letters],
    )


def _letter(letter: Letter) -> DeadLetterDocument:
    return DeadLetterDocument(
        id=letter.id,
        refused_at=letter.time,
        reason=letter.reason,
        message=letter.message,
        came_from=letter.came_from,
    )
