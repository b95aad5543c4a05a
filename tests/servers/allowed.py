"""Which tests may start Apache Kafka: those that are marked so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_allowed = [True]


@contextmanager
def allow_kafka(allowed: bool) -> Iterator[None]:
    """Whether what runs now may start Kafka; else `require_kafka_allowed` raises."""
    _allowed.append(allowed)
    try:
        yield
    finally:
        _allowed.pop()


def require_kafka_allowed() -> None:
    """Raise AssertionError where a test asks for Kafka and is not marked."""
    if not _allowed[-1]:
        raise AssertionError(
            "this test runs on Apache Kafka: mark it with pytest.mark.kafka, so that `make test`, "
            "which needs nothing but Python, leaves it out"
        )
