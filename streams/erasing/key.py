"""The erasure key of a partition's state: whether it is the configured one."""

from __future__ import annotations

from collections.abc import Mapping

from models.aggregate.record import ERASURE_KEY, erasure_fingerprint, knows_key, rekeyed


class ErasureKeyChanged(Exception):
    """The secret under which erased customers are remembered is not the one it was."""


def check_key(states: Mapping[bytes, bytes], partition: int, secret: bytes) -> None:
    """Raise ErasureKeyChanged when a partition's fingerprints are of another secret."""
    held = states.get(ERASURE_KEY)
    if held is not None and held != erasure_fingerprint(secret):
        raise _changed(partition)


def adopted(
    states: Mapping[bytes, bytes], partition: int, secret: bytes
) -> dict[bytes, bytes | None]:
    """What to change in a partition that a former version wrote; {} for nothing.

    Raises
    ------
    ErasureKeyChanged
        when its fingerprints are of another secret.
    """
    if not knows_key(states.get(ERASURE_KEY), secret):
        raise _changed(partition)
    return rekeyed(states, secret)


def _changed(partition: int) -> ErasureKeyChanged:
    return ErasureKeyChanged(
        f"CLV_ERASURE_KEY is not the one under which the erased customers of partition "
        f"{partition} are remembered: late events would bring them back. Give all workers "
        "the former one"
    )
