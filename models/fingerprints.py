"""Fingerprints of ids, keyed by the erasure key: without it nobody can test whose one is.

A plain hash of an id is no secret: all ids of a shop are hashed in a second. Each purpose has
fingerprints of its own (BLAKE2's personalisation), so that none can be compared with another's.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
"""128 bits: no two of all ids that there are have the same by chance."""

ERASED: Final = b"clv erased"
KEY_CHECK: Final = b"clv key check"
CACHE_NOTE: Final = b"clv cache note"
LOG_MARK: Final = b"clv log mark"
COPY_MARK: Final = b"clv copy mark"


def fingerprint(data: bytes, secret: bytes, purpose: bytes) -> bytes:
    """The fingerprint of these bytes for a purpose: 16 bytes, keyed by a secret of any length."""
    return blake2b(data, digest_size=DIGEST_BYTES, key=_key(secret), person=purpose).digest()


@lru_cache(maxsize=8)
def _key(secret: bytes) -> bytes:
    """The secret in as many bytes as BLAKE2 takes."""
    return blake2b(secret, digest_size=blake2b.MAX_KEY_SIZE, person=b"clv erasure key").digest()
