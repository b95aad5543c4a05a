"""The erasure key of a service that keeps nothing."""

from __future__ import annotations

from pydantic import SecretStr

TESTING_ERASURE_KEY = SecretStr("for tests only, known to everybody: no erasure key")
"""The same in every run, so that a replay gives the same bytes; it protects nobody."""
