"""Where a topology can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MEMORY = "memory"
BACKENDS = (MEMORY, "embedded", "kafka")


def everywhere() -> pytest.MarkDecorator:
    """A mark that runs a test of `topology` in memory, on an embedded broker, and on Kafka."""
    import pytest  # noqa: PLC0415 - a topology does without

    return pytest.mark.parametrize("clv_backend", BACKENDS, indirect=True)
