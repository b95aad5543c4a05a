"""What a worker says about itself: health, lag, and the watchdogs that end it when it stands still.

`assess.py` judges an observation and does nothing else; `observer.py` gathers it from the running
app; `server.py` answers over HTTP; `watchdog.py` ends the process.
"""

from streams.health.assess import (
    CacheState,
    Health,
    Observation,
    RecoveryState,
    StallClock,
    assess,
)
from streams.health.observer import Observer
from streams.health.server import health_server
from streams.health.watchdog import STALLED, STOP_HUNG, LoopWatch, end_process, stacks

__all__ = [
    "STALLED",
    "STOP_HUNG",
    "CacheState",
    "Health",
    "LoopWatch",
    "Observation",
    "Observer",
    "RecoveryState",
    "StallClock",
    "assess",
    "end_process",
    "health_server",
    "stacks",
]
