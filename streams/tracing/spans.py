"""Spans of batches, in OpenTelemetry's SDK, sent to a collector by OTLP over HTTP.

A batch links to what its publishers were doing when they published, and is never a child of it: its
records come from many. What it publishes carries the batch's own context on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from models.outputs import Outputs
from streams.tracing.context import HEADER, TraceContext, contexts, encoded
from streams.transport.batches import RecordBatch
from streams.versions import program_version

MOST_LINKS: Final = 128
"""Links of a batch, OpenTelemetry's own limit; an attribute says how many are missing."""

CLOSE_SECONDS: Final = 3.0
"""How long what is left may take to be sent at the end; a collector that is away loses it."""

_COUNTS: Final = ("accepted", "duplicates", "replayed", "forgotten")


class BatchSpan:
    """The span of one batch, from the call of the engine until its outputs are delivered.

    header: what the batch's outputs carry; None if the batch is not recorded.
    """

    __slots__ = ("_span", "header")

    def __init__(self, span: Any) -> None:
        self._span = span
        self.header: tuple[str, bytes] | None = None
        if span.is_recording():
            own = span.get_span_context()
            context = TraceContext(own.trace_id, own.span_id, own.trace_flags)
            self.header = (HEADER, encoded(context))

    def reached(self, step: str) -> None:
        """Note that a step is done."""
        self._span.add_event(step)

    def end(self, error: BaseException | None = None) -> None:
        """End it; error: why the outputs were not delivered."""
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()


class Traces:
    """Begins a span for each batch. group: the consumer group. share: of the batches, 0 to 1."""

    def __init__(self, processor: SpanProcessor, group: str, share: float = 1.0) -> None:
        resource = Resource.create(
            {"service.name": f"{group}-worker", "service.version": program_version()}
        )
        self.provider = TracerProvider(
            sampler=TraceIdRatioBased(share), resource=resource, shutdown_on_exit=False
        )
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("clv-streams", program_version())
        self._group = group

    def batch(self, batch: RecordBatch, outputs: Outputs, seconds: float) -> BatchSpan:
        """Begin the span of a batch that the engine has worked on for so long."""
        span = self._tracer.start_span(
            f"process {batch.tp.topic}",
            # Empty: nothing is its parent.
            context=Context(),
            kind=SpanKind.CONSUMER,
            start_time=time.time_ns() - int(seconds * 1e9),
        )
        if span.is_recording():
            self._describe(span, batch, outputs)
        return BatchSpan(span)

    def _describe(self, span: Any, batch: RecordBatch, outputs: Outputs) -> None:
        linked, missing = contexts(batch.records, MOST_LINKS)
        for each in linked:
            flags = TraceFlags(each.flags)
            span.add_link(
                SpanContext(each.trace_id, each.span_id, is_remote=True, trace_flags=flags)
            )
        span.set_attributes(
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": batch.tp.topic,
                "messaging.destination.partition.id": str(batch.tp.partition),
                "messaging.consumer.group.name": self._group,
                "messaging.batch.message_count": len(batch),
                "messaging.kafka.offset": batch.records[0].offset,
                **{f"clv.{name}": getattr(outputs, name) for name in _COUNTS},
                "clv.refused": len(outputs.dead_letters),
                "clv.rerouted": len(outputs.rerouted),
                "clv.links_left_out": missing,
            }
        )
        span.add_event("engine")


@asynccontextmanager
async def tracing(endpoint: str, group: str, share: float) -> AsyncIterator[Traces]:
    """Send spans to a collector in the context; the event loop never waits for it."""
    traces = Traces(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)), group, share)
    try:
        yield traces
    finally:
        closing = asyncio.create_task(asyncio.to_thread(traces.provider.shutdown))
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
