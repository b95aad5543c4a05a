"""`python -m tests.faults`: break the service in every way, and count what that costs."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from dataclasses import replace
from pathlib import Path

from tests.faults.breaks import BREAKS
from tests.faults.report import RunResult, summary, table
from tests.faults.runner import Runner, chosen, why_not
from tests.faults.world import SHORT_SESSION, Setup
from tests.servers.kafka import kafka_missing_reason


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Break the service in every way while events come in, and compare what it "
        "stores and publishes with what they come to. Exit status 1 if anything is lost, doubled, "
        "goes back, or is wrong.",
        epilog="kinds: " + ", ".join(BREAKS),
    )
    parser.add_argument(
        "--kinds",
        help="names separated by commas, of kinds or of families (worker, broker, redis, input, "
        "disk, clock, silence), or cheap; default: all",
    )
    parser.add_argument("--runs", type=int, default=20, help="of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first run of each kind; default: any")
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--transport", choices=["ours", "stock"], default="ours")
    parser.add_argument("--durable", action="store_true", help="workers keep copies on disk")
    parser.add_argument(
        "--identities",
        action="store_true",
        help="customers are merged and erased too",
    )
    parser.add_argument(
        "--session",
        type=float,
        default=SHORT_SESSION,
        help="seconds of the group's session; more of them where the machine is busy "
        "(default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--keep", type=Path, help="leave all logs in this directory")
    return parser.parse_args()


async def run_all(options: argparse.Namespace) -> list[RunResult]:
    """Run what was asked for, and tell of each run."""
    setup = Setup(options.broker, options.transport, options.durable, options.session)
    kinds = chosen(options.kinds, setup)
    if options.identities:
        kinds = [replace(kind, identities=True) for kind in kinds]
    for kind in BREAKS.values():
        if options.kinds is None and (reason := why_not(kind, setup)) is not None:
            print(f"{kind.name:<20} left out: {reason}")
    results = []
    async with Runner(setup, options.seed, keep=options.keep) as runner:
        async for result in runner.run(kinds, options.runs):
            print(result.line(), flush=True)
            results.append(result)
            # What was found stays, also if somebody ends it.
            write(options, results)
    return results


def write(options: argparse.Namespace, results: list[RunResult]) -> None:
    """Write the results to a file, if that is asked for."""
    if options.json is None:
        return
    document = {
        "seed": options.seed,
        "broker": options.broker,
        "transport": options.transport,
        "identities": options.identities,
        "kinds": summary(results),
        "runs": [result.as_json() for result in results],
    }
    draft = options.json.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.rename(options.json)


def main() -> None:
    """Run, print, and exit with 1 if anything is not clean."""
    options = arguments()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000_000)
    print(f"seed {options.seed}", flush=True)
    # It says of every request to a broken node that it failed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if options.broker == "kafka" and (reason := kafka_missing_reason()) is not None:
        sys.exit(f"{reason}; --broker embedded runs what needs no more than one node")
    try:
        results = asyncio.run(run_all(options))
    except ValueError as error:
        sys.exit(str(error))
    print()
    print(table(summary(results)))
    sys.exit(0 if results and all(result.ok for result in results) else 1)


if __name__ == "__main__":
    main()
