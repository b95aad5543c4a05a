"""Errors as problem details: what is wrong, and what to do about it.

Source: RFC 9457, Problem Details for HTTP APIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from models.errors import ClvError
from streams.kafka.errors import KafkaError

MEDIA_TYPE: Final = "application/problem+json"

RETRY_SECONDS: Final = 2
"""After how long a client may ask again where a server is away."""


class ProblemDocument(BaseModel):
    """The body of an error. title: of the status; detail: what is wrong, and what to do."""

    title: str
    status: int
    detail: str


class Problem(ClvError):
    """A request cannot be answered. headers: of the response."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of these errors."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}},
            },
        }
        for status in statuses
    }


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response of an error."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def away(what: str, error: BaseException) -> JSONResponse:
    """Return the response while a server is away."""
    return answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{what} cannot be read: {type(error).__name__}; ask again, and see /health and the log",
        {"Retry-After": str(RETRY_SECONDS)},
    )


def install(app: FastAPI) -> None:
    """Answer all errors so."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> JSONResponse:
        return answer(error.status, error.detail, error.headers)

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, error: HTTPException) -> JSONResponse:
        detail = {
            HTTPStatus.NOT_FOUND: f"there is no {request.url.path}; see /openapi.json",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.url.path} takes "
            f"{(error.headers or {}).get('Allow', 'GET')}, and not {request.method}",
        }.get(HTTPStatus(error.status_code), str(error.detail))
        return answer(error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}"
            for each in error.errors()
        )
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, wrong)

    @app.exception_handler(RedisError)
    async def without_redis(_request: Request, error: RedisError) -> JSONResponse:
        return away("Redis", error)

    @app.exception_handler(KafkaError)
    async def without_kafka(_request: Request, error: KafkaError) -> JSONResponse:
        return away("Kafka", error)
