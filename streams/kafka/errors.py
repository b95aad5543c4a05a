"""aiokafka's exceptions that callers tell apart; all of them derive from KafkaError."""

from __future__ import annotations

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

__all__ = [
    "ClusterAuthorizationFailedError",
    "GroupAuthorizationFailedError",
    "KafkaError",
    "KafkaTimeoutError",
    "MessageSizeTooLargeError",
    "TopicAuthorizationFailedError",
    "is_passing",
]


def is_passing(error: KafkaError) -> bool:
    """Whether a broker may get over an error by itself."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)
