"""The routes for who operates the service: how far the workers are, and what they refused."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.dead_letters.letter import Letter
from streams.dead_letters.retry import Outcome
from streams.serving.bodies import body_of
from streams.serving.operations import Operations
from streams.serving.problems import RETRY_SECONDS, Problem, documented
from streams.serving.retrying import LETTERS
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


class RetryRequest(BaseModel):
    """Dead letters to send again: their ids, partition/offset."""

    model_config = ConfigDict(extra="forbid")

    letters: Annotated[
        list[Annotated[str, Field(pattern=r"^[0-9]{1,5}/[0-9]{1,18}$")]],
        Field(min_length=1, max_length=LETTERS),
    ]


class RetriedDocument(BaseModel):
    """What became of a letter. to: the partition that it was sent to; null if it was not."""

    id: str
    outcome: Outcome
    why: str
    to: str | None


class RetriesDocument(BaseModel):
    """What became of the letters. not_found: they are not in the topic, or too far back in it."""

    letters: list[RetriedDocument]
    not_found: list[str]


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

    @v1.post(
        "/dead-letters/retry",
        response_model=RetriesDocument,
        responses=documented(
            HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        ),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": RetryRequest.model_json_schema()}},
            }
        },
    )
    async def retry(request: Request) -> RetriesDocument:
        """Send dead letters again, to where they came from, if they would be accepted now.

        It needs a token that may write. An event that was sent already counts once.
        """
        # By hand: whoever may not write shall not have a body read.
        sources.access.check_writer(request)
        try:
            asked = RetryRequest.model_validate_json(await body_of(request))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}") from None
        places = sources.retries.places(asked.letters)
        told = await sources.retries.send(places)
        seen = {each.letter.id for each in told}
        return RetriesDocument(
            letters=[
                RetriedDocument(
                    id=each.letter.id, outcome=each.outcome, why=each.why, to=each.to or None
                )
                for each in told
            ],
            not_found=[each for each in asked.letters if each not in seen],
        )


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
