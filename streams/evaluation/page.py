"""An evaluation as one page of HTML that refers to nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from models.evaluation import Prequential, SplitReport
from streams.evaluation.plots import bars, lines
from streams.evaluation.words import (
    Rows,
    prequential_rows,
    prequential_words,
    summary,
    tables_of,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5d6678; --rule: #d9dde5;
  --ground: #ffffff; --s0: #2563c9; --s1: #cf5f1f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #a3acbd; --rule: #363d4b;
  --ground: #14171d; --s0: #7eabff; --s1: #ff9d63; } }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
h3, figcaption { font-size: 1rem; font-weight: 600; margin: 0 0 .25rem; }
.note, .key { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1.5rem; }
figure { margin: 0; max-width: 40rem; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--rule); } .reference { stroke: var(--ink); stroke-dasharray: 4 3; }
.line { fill: none; stroke-width: 2; }
.line.s0 { stroke: var(--s0); } .line.s1 { stroke: var(--s1); }
.bar.s0 { fill: var(--s0); } .bar.s1 { fill: var(--s1); }
.key { margin: 0 0 .5rem; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
.key .s1, .key .band { margin-left: .8em; }
.band { fill: var(--s0); background: var(--s0); opacity: .2; }
.key .s0 { background: var(--s0); } .key .s1 { background: var(--s1); }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; margin: 1.5rem 0; }
.table { max-width: 100%; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .75rem .2rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
"""

_ABOUT = "What was expected of each customer on a day, held against what they did afterwards."
_KEY = '<p class="key"><i class="s0"></i>expected<i class="s1"></i>actual</p>'


def page(
    name: str,
    currency: str,
    splits: Sequence[SplitReport],
    prequential: Prequential | None,
    notes: Sequence[str] = (),
) -> str:
    """Return the page; name: of the file or data set. It is well-formed XML as well."""
    title = f"Held-out evaluation of {name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{_ABOUT} Amounts are in {escape(currency)}, net of refunds.</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        *(_split(each, currency) for each in splits),
    ]
    if prequential is not None:
        parts.append(_prequential(prequential))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _split(report: SplitReport, currency: str) -> str:
    weeks = [
        (0.0, 0.0, 0.0),
        *((each.day / 7, each.expected, each.actual) for each in report.weeks),
    ]
    plots = [
        _figure(
            "Purchases since the split",
            lines(
                "Cumulative purchases by week, expected and actual",
                "weeks since the split",
                "purchases",
                {
                    "expected": [(week, expected) for week, expected, _ in weeks],
                    "actual": [(week, actual) for week, _, actual in weeks],
                },
            ),
        ),
        _figure(
            "Purchases a head by frequency",
            bars(
                "Purchases a head by frequency, expected and actual",
                "repeat purchases until the split",
                "purchases a head",
                labels=[each.label for each in report.by_frequency],
                series={
                    "expected": [each.expected for each in report.by_frequency],
                    "actual": [each.actual for each in report.by_frequency],
                },
            ),
        ),
    ]
    if report.lift:
        plots.append(
            _figure(
                "Spend a head by tenths, best predicted first",
                bars(
                    "Spend a head in each tenth of the customers, expected and actual",
                    "tenth of the customers",
                    currency,
                    labels=[str(number) for number in range(1, len(report.lift) + 1)],
                    series={
                        "expected": [each.expected for each in report.lift],
                        "actual": [each.actual for each in report.lift],
                    },
                ),
            )
        )
    plots.append(
        _figure(
            "Where outcomes lie in their predicted distributions",
            bars(
                "Share of outcomes in each tenth of their predicted distribution",
                "tenth of the distribution; a tenth each would be right",
                "share of customers",
                labels=[str(number) for number in range(1, len(report.pit) + 1)],
                series={"share": report.pit},
                reference=1 / len(report.pit),
            ),
            key='<p class="key">Rising: more came than expected. High ends: too narrow.</p>',
        )
    )
    tables = "".join(_table(each) for each in tables_of(report, currency))
    heading = (
        f"<h2>Known until {escape(report.split)}, {escape(report.model)}</h2>"
        f"<p>{escape(summary(report))}</p>"
    )
    return f'{heading}<div class="plots">{"".join(plots)}</div><div class="tables">{tables}</div>'


def _prequential(found: Prequential) -> str:
    parts = ["<h2>Week by week</h2>", f"<p>{escape(prequential_words(found))}</p>"]
    if found.forecasts:
        plot = lines(
            f"Purchases in the next {found.days_ahead} days, expected and actual",
            "week",
            f"purchases in {found.days_ahead} days",
            {
                "expected": [(n, each.expected) for n, each in enumerate(found.forecasts, 1)],
                "actual": [(n, each.actual) for n, each in enumerate(found.forecasts, 1)],
            },
            band=(
                [(n, each.low) for n, each in enumerate(found.forecasts, 1)],
                [(n, each.high) for n, each in enumerate(found.forecasts, 1)],
            ),
        )
        key = _KEY.replace("actual", 'actual<i class="band"></i>10th to 90th percentile')
        parts += [_figure("Refitted each week", plot, key), _table(prequential_rows(found))]
    return "".join(parts)


def _figure(caption: str, plot: str, key: str = _KEY) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{key}{plot}</figure>"


def _table(table: Rows) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.headers)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    return (
        f'<div class="table"><h3>{escape(table.title)}</h3><div class="scroll" tabindex="0">'
        f'<table aria-label="{escape(table.title)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )
