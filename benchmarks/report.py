"""Medians, ranges and ratios of runs, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measure import CONTENDERS, Run

PEERS = ("faust", "quix")
HEADINGS = (
    "events",
    "events/s",
    "× Faust",
    "× Quix",
    "wall s",
    "CPU s",
    "peak MB",
    "updates",
)


def _of(runs: Sequence[Run], shape: str, contender: str) -> list[Run]:
    return [run for run in runs if run.shape == shape and run.contender == contender]


def ratios(runs: Sequence[Run], shape: str, contender: str, peer: str) -> list[float]:
    """Return the contender's rate over the peer's, round by round."""
    rate_of_peer = {run.round: run.events_per_second for run in _of(runs, shape, peer)}
    return [
        run.events_per_second / rate_of_peer[run.round]
        for run in _of(runs, shape, contender)
        if run.round in rate_of_peer
    ]


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _range(values: Sequence[float], form: str = ",.0f") -> str:
    if len(values) == 1:
        return format(values[0], form)
    middle, low, high = (format(v, form) for v in (median(values), min(values), max(values)))
    return f"{middle} ({low}–{high})"


def show(runs: Sequence[Run], console: Console) -> None:
    """Print one Markdown table per shape: medians, with least and greatest in brackets."""
    for shape in dict.fromkeys(run.shape for run in runs):
        table = Table("contender", box=box.MARKDOWN)
        for heading in HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for name in dict.fromkeys(run.contender for run in runs if run.shape == shape):
            of_name = _of(runs, shape, name)
            against = [ratios(runs, shape, name, peer) for peer in PEERS]
            table.add_row(
                CONTENDERS[name].title,
                f"{of_name[0].events:,}",
                _range([run.events_per_second for run in of_name]),
                *(_range(values, ".2f") if values else "–" for values in against),
                f"{median(run.seconds_wall for run in of_name):.1f}",
                f"{median(run.seconds_cpu for run in of_name):.1f}",
                f"{median(run.peak_rss_bytes for run in of_name) / 1e6:,.0f}",
                f"{median(run.updates for run in of_name):,.0f}",
            )
        console.print(f"\n{shape}: medians (least–greatest)")
        console.print(table)


def write_json(runs: Sequence[Run], path: Path) -> None:
    """Write every run, and the ratios, to a file."""
    document = {
        "machine": machine(),
        "runs": [asdict(run) for run in runs],
        "ratios": [
            {
                "shape": shape,
                "contender": name,
                "to": peer,
                "rounds": values,
                "median": median(values),
            }
            for shape in dict.fromkeys(run.shape for run in runs)
            for name in dict.fromkeys(run.contender for run in runs)
            for peer in PEERS
            if name != peer and (values := ratios(runs, shape, name, peer))
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
