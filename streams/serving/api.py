"""The routes of the read API; /openapi.json describes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from redis.exceptions import RedisError

from models.contracts.outputs import ValueUpdate
from streams.kafka.errors import KafkaError
from streams.serving.changes import Wanted, changes
from streams.serving.cursors import (
    after_customer,
    after_place,
    customer_before,
    place_of,
    position_of,
)
from streams.serving.due import add_routes as add_due
from streams.serving.insight import absent
from streams.serving.insight import add_routes as add_insight
from streams.serving.model import add_routes as add_model
from streams.serving.operating import add_routes as add_operating
from streams.serving.pages.routes import add_pages
from streams.serving.problems import Problem, ProblemDocument, documented, install
from streams.serving.scores import Page
from streams.serving.sources import Sources

log = structlog.get_logger(__name__)

MOST_STREAMS = 50
"""Streams of changes at a time; each reads the topic for itself."""

LARGEST_PAGE = 500

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


class CustomerPage(BaseModel):
    """A part of a list of customers. next: the cursor of what follows; null at the end."""

    customers: list[ValueUpdate]
    next: str | None


class SegmentCount(BaseModel):
    """A segment's customers, and the sum of their values in the reporting currency."""

    customers: int
    value: float


class SegmentCounts(BaseModel):
    """The segments that have customers, by dimension. customers: of all segments together."""

    currency: str
    customers: int
    dimensions: dict[str, dict[str, SegmentCount]]


class ServiceHealth(BaseModel):
    """Whether Redis and Kafka can be read; if not, why."""

    status: str
    reasons: list[str]


def create_app(sources: Sources) -> FastAPI:
    """Return the application: the API and the pages.

    Each request to /v1, and each page, needs one of the tokens if any to read are configured. What
    changes something needs one to write.
    """
    scores, broker, settings = sources.scores, sources.broker, sources.settings
    topics, currency = settings.topics, settings.economics.currency
    app = FastAPI(
        title="CLV Streams",
        version=version("clv-streams"),
        summary="What customers are worth, and why.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    install(app)
    streams = asyncio.Semaphore(MOST_STREAMS)
    v1 = APIRouter(
        prefix="/v1",
        dependencies=[Depends(sources.access.check_reader)],
        responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE),
    )

    @v1.get(
        "/customers/{customer_id:path}",
        response_model=ValueUpdate,
        responses=documented(HTTPStatus.NOT_FOUND)
        | {304: {"description": "The version in If-None-Match is the current one."}},
    )
    async def customer(
        customer_id: str, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """Return a customer's value, its parts, levers and segments, as published last."""
        found = await scores.customer(customer_id)
        if found is None:
            raise absent(customer_id)
        tag = f'"{found.number}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in (if_none_match or "").replace("W/", "").split(", "):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(found.data, media_type=_JSON, headers=headers)

    @v1.get("/ranking", response_model=CustomerPage)
    async def ranking(
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50, cursor: str | None = None
    ) -> Response:
        """Return customers by value, highest first."""
        page = await scores.ranking(limit, customer_before(cursor))
        return _page(page, None if page.last is None else after_customer(page.last))

    @v1.get("/segments", response_model=SegmentCounts)
    async def segments() -> Response:
        """Return how many customers each segment has, and what they are worth together."""
        body = {
            "currency": currency,
            "customers": await scores.size(),
            "dimensions": await scores.segments(),
        }
        return JSONResponse(body, headers=_NO_STORE)

    @v1.get(
        "/segments/{dimension}/{segment:path}",
        response_model=CustomerPage,
        responses=documented(HTTPStatus.NOT_FOUND),
    )
    async def members(
        dimension: str,
        segment: str,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        cursor: str | None = None,
    ) -> Response:
        """Return the customers of a segment by value, highest first."""
        if dimension not in (known := await scores.dimensions()):
            raise Problem(
                HTTPStatus.NOT_FOUND,
                f"there is no dimension {dimension!r}; there are {', '.join(known)}",
            )
        start = place_of(cursor)
        page = await scores.members(dimension, segment, limit, start)
        return _page(page, None if page.last is None else after_place(start + limit))

    @v1.get("/changes", response_class=StreamingResponse, responses=_EVENTS)
    async def segment_changes(
        dimension: str | None = None,
        segment: str | None = None,
        customer_id: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Send segment changes and removals as server-sent events.

        Without `Last-Event-ID` it begins with what is published next.
        """
        since = None if last_event_id is None else position_of(last_event_id)
        if streams.locked():
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MOST_STREAMS} streams are open, and no more are served; read "
                f"{topics.segment_changes} from Kafka instead",
                {"Retry-After": "60"},
            )
        found = changes(
            broker, topics.segment_changes, since, Wanted(dimension, segment, customer_id)
        )
        return await _streamed(found, streams)

    @app.get("/health", response_model=ServiceHealth)
    async def health() -> JSONResponse:
        """Return whether Redis can be read."""
        try:
            await sources.size()
        except RedisError as error:
            away = f"Redis cannot be read: {type(error).__name__}"
            return JSONResponse({"status": "degraded", "reasons": [away]}, 503, _NO_STORE)
        return JSONResponse({"status": "ok", "reasons": []}, headers=_NO_STORE)

    add_insight(v1, sources)
    add_due(v1, sources)
    add_model(v1, sources)
    add_operating(v1, sources)
    app.include_router(v1)
    add_pages(app, sources)
    _describe_problems(app)
    return app


def _page(page: Page, cursor: str | None) -> Response:
    quoted = b"null" if cursor is None else b'"%b"' % cursor.encode()
    body = b'{"customers":[%b],"next":%b}' % (b",".join(page.documents), quoted)
    return Response(body, media_type=_JSON, headers=_NO_STORE)


async def _streamed(found: AsyncIterator[bytes], streams: asyncio.Semaphore) -> StreamingResponse:
    """Return the response of a stream; what fails before its first part is an error as usual."""
    await streams.acquire()
    try:
        first = await anext(found)
    except BaseException:
        streams.release()
        raise

    async def parts() -> AsyncIterator[bytes]:
        try:
            yield first
            async for part in found:
                yield part
        except KafkaError as error:
            # The client comes back by itself, with the id of the last event.
            log.warning("a stream of changes ends", error=repr(error))
        finally:
            streams.release()
            await found.aclose()  # type: ignore[attr-defined]

    return StreamingResponse(parts(), media_type="text/event-stream", headers=_NO_STORE)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of errors to the OpenAPI document, in place of FastAPI's own."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]
