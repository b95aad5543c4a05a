"""Check that a partition's fingerprints were made with the configured erasure key."""

from __future__ import annotations

from collections.abc import Mapping

from models.aggregate.record import ERASURE_KEY, erasure_fingerprint, knows_key, rekeyed
from models.errors import ClvError


class ErasureKeyChanged(ClvError):
    """The fingerprints of erased customers were made with another erasure key."""


def check_key(states: Mapping[bytes, bytes], partition: int, secret: bytes) -> None:
    """Raise ErasureKeyChanged if a partition's fingerprints were made with another secret."""
    held = states.get(ERASURE_KEY)
    if held is not None and held != erasure_fingerprint(secret):
        raise _changed(partition)


def adopted(
    states: Mapping[bytes, bytes], partition: int, secret: bytes
) -> dict[bytes, bytes | None]:
    """Return the changes to a partition that an earlier version wrote; {} for none.

    Errors: ErasureKeyChanged if its fingerprints were made with another secret.
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
