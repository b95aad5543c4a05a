"""Medians, ranges and ratios of runs, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Run
from benchmarks.workload import WORKLOADS

REFERENCE = "ours"
HEADINGS = (
    "events",
    "events/s",
    "× ours",
    "CPU µs an event",
    "× ours",
    "with start",
    "bytes sent an event",
    "peak MB",
    "updates an event",
)


def ratios(
    runs: Sequence[Run], contender: str, value: Callable[[Run], float], reference: str = REFERENCE
) -> list[float]:
    """Return a contender's values over those of the reference, round by round."""
    by_round = {run.round: value(run) for run in runs if run.contender == reference}
    return [
        value(run) / by_round[run.round]
        for run in runs
        if run.contender == contender and run.round in by_round
    ]


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Return the median, with least and greatest in parentheses."""
    if len(values) == 1:
        return format(values[0], form)
    middle, low, high = (format(v, form) for v in (median(values), min(values), max(values)))
    return f"{middle} ({low}–{high})"


def show(runs: Sequence[Run], console: Console) -> None:
    """Print one Markdown table for each broker and workload."""
    for broker, workload in dict.fromkeys((run.broker, run.workload) for run in runs):
        chosen = [run for run in runs if (run.broker, run.workload) == (broker, workload)]
        table = Table("contender", box=box.MARKDOWN)
        for heading in HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for name in dict.fromkeys(run.contender for run in chosen):
            of_name = [run for run in chosen if run.contender == name]
            rate, cpu = (
                ratios(chosen, name, value) for value in (lambda r: r.rate, lambda r: r.cpu_us)
            )
            table.add_row(
                CONTENDERS[name].title,
                f"{of_name[0].events:,}",
                spread([run.rate for run in of_name]),
                f"{median(rate):.2f}" if rate else "",
                spread([run.cpu_us for run in of_name]),
                f"{median(cpu):.2f}" if cpu else "",
                f"{median(run.cpu_us_with_start for run in of_name):,.0f}",
                f"{median(run.sent_bytes for run in of_name):,.0f}",
                f"{median(run.memory_peak for run in of_name) / 1e6:,.0f}",
                f"{median(run.updates / run.events for run in of_name):.2f}",
            )
        console.print(f"\n{WORKLOADS[workload].title} ({workload}), broker: {broker}")
        console.print(table)


def write_json(runs: Sequence[Run], path: Path) -> None:
    """Write every run, and the ratios to our worker, to a file."""
    document = {
        "machine": machine(),
        "runs": [
            asdict(run) | {"rate": run.rate, "cpu_us": run.cpu_us, "sent_bytes": run.sent_bytes}
            for run in runs
        ],
        "of_ours": [
            {
                "broker": broker,
                "workload": workload,
                "contender": name,
                "rate": ratios(chosen, name, lambda run: run.rate),
                "cpu": ratios(chosen, name, lambda run: run.cpu_us),
            }
            for broker, workload in dict.fromkeys((run.broker, run.workload) for run in runs)
            for chosen in [[r for r in runs if (r.broker, r.workload) == (broker, workload)]]
            for name in dict.fromkeys(run.contender for run in chosen)
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
