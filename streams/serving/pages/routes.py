"""The addresses of the pages, who may see them, and what they show while a server is away."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime
from hmac import compare_digest
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode

from fastapi import FastAPI
from jinja2 import Environment, PackageLoader, StrictUndefined
from redis.exceptions import RedisError
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from streams.kafka.errors import KafkaError
from streams.serving.bodies import body_of
from streams.serving.lists import exported
from streams.serving.pages import due, others
from streams.serving.pages.customer import customer
from streams.serving.pages.lists import asked_for, customer_list
from streams.serving.pages.overview import overview
from streams.serving.pages.words import filters
from streams.serving.problems import Problem
from streams.serving.sources import Sources
from streams.serving.tokens import COOKIE

Build = Callable[[Request], Awaitable[Response]]

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def add_pages(app: FastAPI, sources: Sources) -> None:
    """Add the pages to an application."""
    _Pages(sources).add_to(app)
    static = StaticFiles(directory=Path(__file__).parent / "static")
    app.mount("/static", static, name="static")


class _Pages:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._access = sources.access
        economics = sources.settings.economics
        self._templates = Environment(
            loader=PackageLoader("streams.serving.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= filters(economics.timezone)
        self._templates.filters["path"] = lambda text: quote(text, safe="")
        self._templates.filters["query"] = urlencode
        self._templates.globals |= {
            "currency": economics.currency,
            "zone": economics.timezone,
            "stands_at": sources.settings.serve.now,
        }

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        pages: dict[str, tuple[str, Callable[[Request], Awaitable[dict[str, Any]]]]] = {
            "/": ("overview.html", lambda _request: overview(self._sources)),
            "/customers": ("customers.html", self._query(customer_list)),
            "/due": ("due.html", self._query(due.due_list)),
            "/changes": ("changes.html", self._query(others.changes)),
            "/flows": ("flows.html", self._query(others.flows)),
            "/cohorts": ("cohorts.html", self._query(others.cohorts)),
            "/model": ("model.html", self._query(others.model)),
            "/operations": ("operations.html", self._query(others.operations)),
            "/customers/{customer_id:path}": (
                "customer.html",
                lambda request: customer(self._sources, request.path_params["customer_id"]),
            ),
        }
        for path, export in (("/customers.csv", self._customers), ("/due.csv", self._due)):
            app.add_route(path, self._guarded(export), include_in_schema=False)
        for path, (template, build) in pages.items():
            app.add_route(path, self._guarded(self._page(template, build)), include_in_schema=False)
        app.add_route(
            "/operations/retry",
            self._guarded(self._retry),
            methods=["POST"],
            include_in_schema=False,
        )
        app.add_route("/login", self._login, methods=["GET", "POST"], include_in_schema=False)
        self._answer_unknown(app)

    def _answer_unknown(self, app: FastAPI) -> None:
        """Say it in a page where a browser asks for one that is not there."""
        otherwise = app.exception_handlers[HTTPException]

        @app.exception_handler(HTTPException)
        async def unknown(request: Request, error: HTTPException) -> Response:
            path, wanted = request.url.path, request.headers.get("Accept", "")
            if error.status_code == 404 and "text/html" in wanted and not path.startswith("/v1/"):
                return self._error(request, 404, "Not Found", f"There is no page {path}.")
            answer: Response = await otherwise(request, error)  # type: ignore[misc]
            return answer

    def _query(
        self, build: Callable[[Sources, QueryParams], Awaitable[dict[str, Any]]]
    ) -> Callable[[Request], Awaitable[dict[str, Any]]]:
        return lambda request: build(self._sources, request.query_params)

    def _page(self, template: str, build: Callable[[Request], Awaitable[dict[str, Any]]]) -> Build:
        async def page(request: Request) -> Response:
            return self._rendered(template, request, await build(request))

        return page

    def _guarded(self, page: Build) -> Build:
        """Return a page for those who may see it, and that says what is away."""

        async def answer(request: Request) -> Response:
            if not self._access.browser_reads(request):
                back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?{urlencode({'next': back})}", 303, _HEADERS)
            try:
                return await page(request)
            except Problem as problem:
                title = HTTPStatus(problem.status).phrase
                return self._error(request, problem.status, title, problem.detail)
            except RedisError as error:
                self._sources.redis.failed(error)
                since = self._sources.redis.since
                return self._error(request, 503, "Redis is away", "", since=since)
            except (KafkaError, OSError) as error:
                self._sources.following.kafka.failed(error)
                since = self._sources.following.kafka.since
                return self._error(request, 503, "Kafka is away", "", since=since)

        return answer

    async def _customers(self, request: Request) -> Response:
        cache, scores = self._sources.cache, self._sources.scores
        asked = asked_for(request.query_params, await scores.dimensions())
        return _file("customers.csv", exported(cache, asked))

    async def _due(self, request: Request) -> Response:
        return _file("due.csv", await due.due_export(self._sources, request.query_params))

    async def _retry(self, request: Request) -> Response:
        """Send dead letters again that a form names, and show what became of them."""
        secret = self._access.form_secret(request)
        form = await _form(request)
        if not secret or not compare_digest(secret, form.get("secret", [""])[0]):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "to send dead letters again, give a token of CLV_SERVE__WRITE_TOKENS at /login, "
                "and use the buttons of the page of operations; or run `clv dead-letters retry`",
            )
        places = self._sources.retries.places(" ".join(form.get("letter", [])).split())
        told = await self._sources.retries.send(places)
        found = {each.letter.place for each in told}
        missing = [f"{partition}/{offset}" for partition, offset in sorted(places - found)]
        return self._rendered("retried.html", request, {"told": told, "missing": missing})

    async def _login(self, request: Request) -> Response:
        """Take a token, and keep it as a cookie that scripts cannot read."""
        target = _own_path(request.query_params.get("next", "/"))
        if request.method == "GET":
            return self._rendered("login.html", request, {"wrong": False, "next": target})
        try:
            token = (await _form(request)).get("token", [""])[0].strip()
        except Problem as problem:
            title = HTTPStatus(problem.status).phrase
            return self._error(request, problem.status, title, problem.detail)
        if self._access.fits(token):
            response = RedirectResponse(target, 303, _HEADERS)
            secure = request.url.scheme == "https"
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
            return response
        return self._rendered("login.html", request, {"wrong": True, "next": target}, 401)

    def _error(
        self,
        request: Request,
        status: int,
        title: str,
        detail: str,
        *,
        since: datetime | None = None,
    ) -> Response:
        context = {"title": title, "detail": detail, "since": since, "status": status}
        return self._rendered("error.html", request, context, status)

    def _rendered(
        self, template: str, request: Request, context: dict[str, Any], status: int = 200
    ) -> Response:
        html = self._templates.get_template(template).render(
            path=request.url.path,
            now=datetime.now(UTC),
            kafka=self._sources.following.kafka,
            secret=self._access.form_secret(request),
            may_write=self._access.write_tokens,
            **context,
        )
        return HTMLResponse(html, status, _HEADERS)


def _file(name: str, parts: AsyncIterable[str] | Iterable[str]) -> Response:
    """Return a file of CSV to save."""
    # Excel takes a file for UTF-8 only if it begins so.
    named = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_with_mark(parts), media_type="text/csv", headers=_HEADERS | named)


async def _with_mark(parts: AsyncIterable[str] | Iterable[str]) -> AsyncIterator[str]:
    yield "\ufeff"
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form. Errors: Problem."""
    return parse_qs((await body_of(request)).decode(errors="replace"))


def _own_path(text: str) -> str:
    """Return an address of this server; the overview for any other."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) else "/"
