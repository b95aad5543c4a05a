"""Traces: a batch links to its publishers and is nobody's child, and its outputs carry it on."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from streams.settings import Settings
from streams.testing import Topology
from streams.tracing.context import TraceContext, contexts, encoded, parsed
from streams.tracing.traces import NO_TRACES, TracingMissing, configured_traces

spans = pytest.importorskip("streams.tracing.spans", reason="run `make test` to install it")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: E402
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

ONE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of W3C Trace Context."""

OTHER = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

CONTEXT = "trace_id", "span_id", "trace_flags"
SAMPLED = 1


def order(customer: str, number: int) -> bytes:
    return (
        f'{{"specversion":"1.0","id":"e{number}","source":"/shop","type":"order.placed",'
        f'"time":"2026-01-03T10:00:00Z","datacontenttype":"application/json","data":{{'
        f'"order_id":"o{number}","customer_id":"{customer}","placed_at":"2026-01-03T10:00:00Z",'
        f'"currency":"EUR","total":"40.00"}}}}'
    ).encode()


async def publish(topology: Topology, customer: str, number: int, *traceparents: bytes) -> None:
    headers = [("traceparent", each) for each in traceparents]
    await topology.publish(
        "shop.orders", key=customer, value=order(customer, number), headers=headers
    )


def traced(topology: Topology, share: float = 1.0) -> InMemorySpanExporter:
    """Trace the topology's worker; return where its spans go."""
    exporter = InMemorySpanExporter()
    [worker] = topology.workers
    worker.pipeline.traces = spans.Traces(SimpleSpanProcessor(exporter), "clv", share)
    return exporter


def of_topic(exporter: InMemorySpanExporter, topic: str) -> list[Any]:
    return [each for each in exporter.get_finished_spans() if each.name == f"process {topic}"]


def carried(topology: Topology, topic: str) -> list[list[bytes]]:
    """The trace contexts of the records of a topic."""
    return [
        [value for name, value in record.headers if name == "traceparent"]
        for record in topology.broker.records(topic)
    ]


def test_the_standards_example_is_read():
    assert parsed(ONE) == TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)
    # A later version may say more.
    assert parsed(b"01" + ONE[2:] + b"-more") == parsed(ONE)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int):
    context = TraceContext(trace_id, span_id, flags)
    assert parsed(encoded(context)) == context
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", encoded(context))


@pytest.mark.parametrize(
    "header",
    [
        b"", b"nonsense", ONE.upper(), ONE[:-1], ONE + b"0", ONE + b"-more", b"ff" + ONE[2:],
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01", b"\xff" * 55,
    ],
)  # fmt: skip
def test_what_is_no_context_is_ignored(header: bytes):
    assert parsed(header) is None


class Sent:
    """A record with headers."""

    def __init__(self, *values: bytes | None, name: str = "traceparent") -> None:
        self.headers = [("content-type", b"application/json"), *((name, each) for each in values)]


def test_the_contexts_of_a_batch_are_different_ones_up_to_a_number():
    records: Any = [Sent(ONE), Sent(), Sent(OTHER, name="ce_traceparent"), Sent(ONE), Sent(None)]
    found = [parsed(ONE), parsed(OTHER)]
    assert contexts(records, 10) == (found, 0)
    # The second context and the empty value are not looked at.
    assert contexts(records, 1) == (found[:1], 2)


async def test_a_batch_links_to_its_publishers_and_is_nobodys_child(topology: Topology):
    exporter = traced(topology)
    await publish(topology, "c1", 1, ONE)
    await publish(topology, "c1", 2, OTHER)
    await publish(topology, "c1", 3, ONE)
    await publish(topology, "c1", 4, b"nonsense")
    await topology.settled()
    found = of_topic(exporter, "shop.orders")
    assert sum(each.attributes["messaging.batch.message_count"] for each in found) == 4
    assert sum(each.attributes["clv.accepted"] for each in found) == 4
    linked = {
        (link.context.trace_id, link.context.span_id, int(link.context.trace_flags))
        for each in found
        for link in each.links
    }
    assert linked == {tuple(parsed(ONE) or ()), tuple(parsed(OTHER) or ())}
    for each in found:
        assert each.parent is None
        assert each.kind is SpanKind.CONSUMER
        assert each.context.trace_id not in {trace for trace, _, _ in linked}
        assert [event.name for event in each.events] == ["engine", "stored", "published"]
        assert each.start_time <= each.events[0].timestamp <= each.end_time


async def test_outputs_carry_their_batch_and_dead_letters_their_publisher(topology: Topology):
    exporter = traced(topology)
    await publish(topology, "c1", 1, ONE)
    await topology.publish(
        "shop.orders", key="c1", value=b"no JSON", headers=[("traceparent", ONE)]
    )
    await topology.settled()
    own = {
        encoded(TraceContext(*(getattr(each.context, name) for name in CONTEXT)))
        for each in of_topic(exporter, "shop.orders")
    }
    assert all((parsed(each) or (0, 0, 0))[2] & SAMPLED for each in own)
    for topic in ("clv.updates", "clv.segment-changes"):
        found = carried(topology, topic)
        assert found
        assert all(len(each) == 1 and each[0] in own for each in found)
    assert carried(topology, "clv.dead-letters") == [[ONE]]


@pytest.mark.parametrize("share", [None, 0.0])
async def test_without_traces_nothing_is_added(topology: Topology, share: float | None):
    [worker] = topology.workers
    assert worker.pipeline.traces is NO_TRACES
    exporter = InMemorySpanExporter() if share is None else traced(topology, share)
    await publish(topology, "c1", 1, ONE)
    await topology.settled()
    assert exporter.get_finished_spans() == ()
    assert set(map(tuple, carried(topology, "clv.updates"))) == {()}


async def test_a_batch_that_is_not_delivered_ends_as_an_error(topology: Topology):
    exporter = traced(topology)
    topology.fail_next_send("clv.updates")
    await publish(topology, "c1", 1, ONE)
    await topology.crash()
    [found] = of_topic(exporter, "shop.orders")
    assert found.status.status_code is StatusCode.ERROR
    assert [event.name for event in found.events] == ["engine", "stored"]


async def test_spans_reach_a_collector_by_otlp():
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await received.put(await request.read())
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        settings = Settings(tracing={"endpoint": endpoint})
        async with configured_traces(settings) as traces:
            traces.provider.get_tracer("test").start_span("one").end()  # type: ignore[attr-defined]
        body = await asyncio.wait_for(received.get(), 30)
    finally:
        await runner.cleanup()
    [sent] = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert names["service.name"] == "clv-worker"
    assert [span.name for scope in sent.scope_spans for span in scope.spans] == ["one"]


async def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "streams.tracing.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = Settings(tracing={"endpoint": "http://localhost:4318/v1/traces"})
    with pytest.raises(TracingMissing, match=re.escape("pip install 'clv-streams[tracing]'")):
        async with configured_traces(settings):
            pass


async def test_without_an_address_nothing_is_traced():
    async with configured_traces(Settings()) as traces:
        assert traces is NO_TRACES
