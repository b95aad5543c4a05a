"""The metrics of the read API: requests by route, and how soon they are answered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import MutableMapping
from functools import partial
from time import monotonic
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.metrics.meters import SECONDS, Histogram, Sample, Samples, info, one
from streams.versions import program_version

OTHER = "other"
"""The path of requests that no route answers: their own could be anything."""


class Metered:
    """An ASGI application that counts the requests of another.

    A request counts when its answer begins: streams never end by themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[str, Histogram] = defaultdict(partial(Histogram, SECONDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = _route(scope)
                self._requests[path, str(message["status"])] += 1
                self._seconds[path].observe(monotonic() - began)
            await send(message)

        self._open += 1
        try:
            await self._app(scope, receive, sending)
        finally:
            self._open -= 1

    def samples(self) -> Samples:
        """Return the present values of all metrics."""
        seconds: list[Sample] = [((path,), each) for path, each in self._seconds.items()]
        return {
            "clv_build_info": info(program_version()),
            "clv_requests_total": [(each, float(n)) for each, n in self._requests.items()],
            "clv_request_seconds": seconds,
            "clv_requests_open": one(self._open),
        }


def _route(scope: MutableMapping[str, Any]) -> str:
    """Return the path of the route that answers, such as "/v1/customers/{customer_id:path}"."""
    return str(getattr(scope.get("route"), "path", OTHER))
