"""What has moved a value, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MOVED: Final[Mapping[str, str]] = {
    "event": "events: orders, returns, contacts",
    "time": "time without an event",
    "model": "other parameters of the model",
    "rules_or_rates": "other rates, margins or costs",
    "merge": "a merged customer",
}
"""By the parts of `moved` in a value update."""
