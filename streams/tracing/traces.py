"""What the pipeline knows of traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from models.errors import ClvError
from models.outputs import Outputs
from streams.settings import Settings
from streams.transport.batches import RecordBatch


class BatchSpan(Protocol):
    """The span of one batch. header: what its outputs carry; None if it is not recorded."""

    header: tuple[str, bytes] | None

    def reached(self, step: str) -> None:
        """Note that a step is done."""

    def end(self, error: BaseException | None = None) -> None:
        """End it; error: why the outputs were not delivered."""


class Traces(Protocol):
    """Who traces batches."""

    def batch(self, batch: RecordBatch, outputs: Outputs, seconds: float) -> BatchSpan:
        """Begin the span of a batch that the engine has worked on for so long."""


class _Untraced:
    """The span of a batch that nobody traces."""

    header: tuple[str, bytes] | None = None

    def reached(self, step: str) -> None:
        pass

    def end(self, error: BaseException | None = None) -> None:
        pass


class _NoTraces:
    def batch(
        self,
        batch: RecordBatch,  # noqa: ARG002 - as the protocol has it
        outputs: Outputs,  # noqa: ARG002
        seconds: float,  # noqa: ARG002
    ) -> BatchSpan:
        return UNTRACED


UNTRACED: BatchSpan = _Untraced()
NO_TRACES: Traces = _NoTraces()


class TracingMissing(ClvError):
    """Traces are configured, and what makes them is not installed."""


@asynccontextmanager
async def configured_traces(settings: Settings) -> AsyncIterator[Traces]:
    """Trace in the context, if the settings say so; else not. Errors: TracingMissing."""
    endpoint = settings.tracing.endpoint
    if endpoint is None:
        yield NO_TRACES
        return
    try:
        # Only who traces has to install it.
        from streams.tracing.spans import tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TracingMissing(
            f"{error.name} is not installed, which CLV_TRACING__ENDPOINT needs: "
            "pip install 'clv-streams[tracing]'"
        ) from error
    async with tracing(endpoint, settings.app_id, settings.tracing.share) as traces:
        yield traces
