"""A `clv worker` whose wall clock is the test's: it reads it from a file.

    CLV_TESTING_CLOCK=file python -m streams.testing.worker_process

The file holds milliseconds since 1970. The production command knows nothing of this.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams import pipeline
from streams.cli import main as command_line

CLOCK = "CLV_TESTING_CLOCK"
"""The environment variable that names the file."""


def main() -> None:
    """Run the worker."""
    clock = Path(os.environ[CLOCK])

    def now() -> int:
        return int(clock.read_text())

    pipeline._now = now  # noqa: SLF001 - in this process there is no other clock
    sys.argv = ["clv", "worker"]
    command_line()


if __name__ == "__main__":
    main()
