"""The worker of this project, with its state, outputs, segments and Redis all on."""

import os
import sys


def main() -> None:
    # Taking the place of this process lets the runner measure the worker itself.
    os.execv(sys.executable, [sys.executable, "-m", "streams.cli", "worker"])


if __name__ == "__main__":
    main()
