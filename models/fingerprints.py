"""Keyed fingerprints of ids: without the erasure key nobody can test whose fingerprint it is.

A plain hash would not protect an id: all ids of a shop can be hashed in a second. Each purpose has
its own fingerprints (BLAKE2's personalisation), so that they cannot be compared across purposes.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
"""128 bits, so that chance collisions do not occur."""

ERASED: Final = b"clv erased"
KEY_CHECK: Final = b"clv key check"
CACHE_NOTE: Final = b"clv cache note"
LOG_MARK: Final = b"clv log mark"
COPY_MARK: Final = b"clv copy mark"


def fingerprint(data: bytes, secret: bytes, purpose: bytes) -> bytes:
    """Return the 16-byte fingerprint for a purpose, keyed by a secret of any length."""
    return blake2b(data, digest_size=DIGEST_BYTES, key=_key(secret), person=purpose).digest()


@lru_cache(maxsize=8)
def _key(secret: bytes) -> bytes:
    """Shorten the secret to the key length that BLAKE2 takes."""
    return blake2b(secret, digest_size=blake2b.MAX_KEY_SIZE, person=b"clv erasure key").digest()
