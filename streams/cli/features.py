"""`clv features`: what a rule of segments may ask for."""

from __future__ import annotations

from rich.table import Table

from models.features import FEATURES
from streams.cli.console import out, print_json
from streams.cli.options import AsJson


def features(*, as_json: AsJson = False) -> None:
    """List what a rule of segments may ask for, with units and meanings."""
    rows = [
        {
            "name": each.name,
            "unit": each.unit,
            "meaning": each.meaning,
            "missing": each.missing,
            "silence": each.in_silence,
        }
        for each in FEATURES.values()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("feature", "unit", "meaning", "missing", "in silence")
    for row in rows:
        table.add_row(*row.values())
    out().print(table)
