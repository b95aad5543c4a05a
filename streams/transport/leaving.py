"""Leaving the consumer group when a worker stops, so that nobody waits for its session to end."""

from __future__ import annotations

from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.group import LeaveGroupRequest

from streams.kafka.errors import KafkaError

log = structlog.get_logger(__name__)


def leave_in_every_generation(consumer: AIOKafkaConsumer) -> None:
    """Make a consumer leave its group also in generation 0; it must be started.

    aiokafka takes 0 for no generation. The embedded broker begins with it, so that it would count a
    stopped worker as a member until another one joins.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - aiokafka has no hook for it
    leave = coordinator._maybe_leave_group  # noqa: SLF001

    async def leave_group() -> None:
        if coordinator.generation == 0:
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            try:
                await coordinator._send_req(request)  # noqa: SLF001
            except KafkaError as error:
                log.warning("the group was not left; its session ends by itself", error=repr(error))
        await leave()

    coordinator._maybe_leave_group = leave_group  # noqa: SLF001
