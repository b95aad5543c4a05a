"""Fitted parameters from `clv.models`: every worker reads them all, and uses the latest."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from streams.claims import is_claim
from streams.clients import started, stop
from streams.connection import Broker

log = structlog.get_logger(__name__)

_POLL_MILLISECONDS = 500


class ParameterFeed:
    """The current parameters, kept current by a consumer without a group.

    Used as an async context manager: on entry everything already published has been read.
    Parameters in another currency than the one given are refused.
    """

    def __init__(self, topic: str, currency: str | None = None, **connection: Any) -> None:
        self._current: Parameters | None = None
        self._currency = currency
        self._seen: set[str] = set()
        self._arrived = asyncio.Condition()
        self._partition = TopicPartition(topic, 0)
        self._consumer = AIOKafkaConsumer(
            enable_auto_commit=False, auto_offset_reset="earliest", **connection
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign([self._partition])
            while (end := self._consumer.highwater(self._partition)) is None or (
                await self._consumer.position(self._partition) < end
            ):
                await self._poll()
        except BaseException:
            # Nobody leaves what was not entered: a partition without a leader ends in a timeout.
            await stop(self._consumer)
            raise
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await stop(self._consumer)

    @property
    def current(self) -> Parameters | None:
        """The parameters to use now; None while none are published.

        Raises whatever ended the following of the topic: without it they would grow old unnoticed.
        """
        if self._task is not None and self._task.done():
            self._task.result()
        return self._current

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until parameters of this version have arrived; say whether they have."""
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: version in self._seen)
        except TimeoutError:
            return False
        return True

    async def _follow(self) -> None:
        while True:
            await self._poll()

    async def _poll(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
        for record in fetched.get(self._partition, ()):
            if record.value is not None and not is_claim(record.key):
                self._read(record)
        if fetched:
            async with self._arrived:
                self._arrived.notify_all()

    def _read(self, record: Any) -> None:
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        try:
            parameters = Parameters.model_validate_json(record.value)
        except ValidationError as error:
            log.warning("parameters refused; the former ones stay", where=where, error=str(error))
            return
        if self._currency not in (None, parameters.currency):
            log.warning(
                "parameters refused; they are not in the shop's currency",
                where=where,
                currency=parameters.currency,
                expected=self._currency,
            )
            return
        self._current = parameters
        self._seen.add(parameters.version)
        log.info("parameters in use", where=where, version=parameters.version)


async def publish_parameters(broker: Broker, topic: str, parameters: Parameters) -> None:
    """Publish parameters for every worker to use from now on."""
    async with started(AIOKafkaProducer(**broker.client_options(), acks="all")) as producer:
        await producer.send_and_wait(
            topic,
            key=parameters.model.encode(),
            value=parameters.model_dump_json().encode(),
            partition=0,
        )
