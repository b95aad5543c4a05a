"""The rows of the tables of an evaluation, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.evaluation import Prequential, SplitReport

MISSING = "-"


class Rows(NamedTuple):
    """A table as text: its title, the headers of its columns, and its rows."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def count(value: float | None) -> str:
    """A number without decimals."""
    return MISSING if value is None else f"{value:,.0f}"


def fraction(value: float | None) -> str:
    """A number between 0 and 1, or one a head."""
    return MISSING if value is None else f"{value:.3f}"


def error(value: float | None) -> str:
    """A relative error in per cent, with its sign."""
    return MISSING if value is None else f"{value:+.1%}"


def amount(value: float | None) -> str:
    """An amount of money."""
    return MISSING if value is None else f"{value:,.2f}"


def summary(report: SplitReport) -> str:
    """What the measures of a split come to, in a sentence or two."""
    ours = report.comparisons[0]
    parts = [f"{report.customers:,} customers, the {report.days} days until {report.until}: "]
    if ours.purchases_error is None:
        return f"{parts[0]}nobody bought."
    parts.append(
        f"{count(ours.purchases)} purchases were expected and {count(report.actual.purchases)} came"
        f" ({error(ours.purchases_error)})"
    )
    if ours.spend_error is not None:
        parts.append(f"; the spend that was expected is off by {error(ours.spend_error)}")
    if report.lift:
        parts.append(
            f". The tenth of the customers with the highest predictions brought "
            f"{report.lift[0].share:.0%} of the spend"
        )
    inside = report.coverage[0]
    parts.append(
        f". {inside.inside:.0%} bought as many times as their interval says"
        + (f"; {inside.nominal:.0%} are to be expected." if inside.nominal is not None else ".")
    )
    return "".join(parts)


def tables_of(report: SplitReport, currency: str) -> list[Rows]:
    """The tables of one split."""
    return [
        _totals(report, currency),
        _calibration(report),
        _ranking(report),
        _lift(report, currency),
        _log_scores(report),
        _coverage(report),
    ]


def _totals(report: SplitReport, currency: str) -> Rows:
    actual = report.actual
    happened = (
        "actual",
        count(actual.purchases),
        "",
        fraction(actual.one_time),
        count(actual.spend),
        "",
        "",
        "",
        "",
    )
    return Rows(
        f"{report.customers:,} customers known on {report.split}, the {report.days} days until "
        f"{report.until}",
        (
            "prediction",
            "purchases",
            "error",
            "a one-time buyer",
            f"spend, {currency}",
            "error",
            "of the value",
            "mean absolute",
            "Gini",
        ),
        (
            happened,
            *(
                (
                    each.name,
                    count(each.purchases),
                    error(each.purchases_error),
                    fraction(each.one_time),
                    count(each.spend),
                    error(each.spend_error),
                    error(each.value_error),
                    amount(each.spend_mae),
                    fraction(each.gini),
                )
                for each in report.comparisons
            ),
        ),
    )


def _calibration(report: SplitReport) -> Rows:
    groups = [(f"x = {each.label}", each) for each in report.by_frequency]
    groups += [(f"{each.label} days silent", each) for each in report.by_silence]
    return Rows(
        "Purchases a head",
        ("customers with", "customers", "expected", "actual"),
        tuple(
            (label, count(each.customers), fraction(each.expected), fraction(each.actual))
            for label, each in groups
        ),
    )


def _ranking(report: SplitReport) -> Rows:
    return Rows(
        "AUC: who buys again",
        ("within days", "bought", "p_purchase", "p_alive"),
        tuple(
            (str(each.days), count(each.bought), fraction(each.p_purchase), fraction(each.p_alive))
            for each in report.auc
        ),
    )


def _lift(report: SplitReport, currency: str) -> Rows:
    rows = []
    share = 0.0
    for number, each in enumerate(report.lift, 1):
        share += each.share
        rows.append(
            (
                str(number),
                amount(each.expected),
                amount(each.actual),
                f"{each.share:.1%}",
                f"{share:.1%}",
            )
        )
    return Rows(
        f"Spend a head by tenths of the customers, best predicted first, {currency}",
        ("tenth", "expected", "actual", "share of spend", "cumulative"),
        tuple(rows),
    )


def _log_scores(report: SplitReport) -> Rows:
    return Rows(
        "Log score of the numbers of purchases, nats",
        ("model", "total", "per 1,000 customers", "behind the best"),
        tuple(
            (
                each.model,
                f"{each.nats:,.1f}",
                f"{each.per_thousand:,.2f}",
                f"{each.behind_best:.2f}",
            )
            for each in report.log_scores
        ),
    )


def _coverage(report: SplitReport) -> Rows:
    return Rows(
        "Between the 10th and the 90th percentile",
        ("of", "customers", "inside", "the model says", "randomised PIT"),
        tuple(
            (
                each.what,
                count(each.customers),
                fraction(each.inside),
                fraction(each.nominal),
                fraction(each.pit),
            )
            for each in report.coverage
        ),
    )


def prequential_rows(found: Prequential) -> Rows:
    """The forecasts week by week."""
    return Rows(
        f"Refitted each week: purchases in the next {found.days_ahead} days",
        (
            "known until",
            "customers",
            "expected",
            "10 %",
            "90 %",
            "actual",
            "error",
            f"the {found.days_ahead} days before",
            "error",
        ),
        tuple(
            (
                each.day,
                count(each.customers),
                count(each.expected),
                count(each.low),
                count(each.high),
                count(each.actual),
                error(each.error),
                count(each.before),
                error(each.before_error),
            )
            for each in found.forecasts
        ),
    )


def prequential_words(found: Prequential) -> str:
    """What the forecasts say in all."""
    if found.mean_absolute_error is None or found.before_absolute_error is None:
        return "no forecast could be made week by week"
    return (
        f"{len(found.forecasts)} forecasts of {found.days_ahead} days: mean absolute error "
        f"{found.mean_absolute_error:.1%}, mean error {error(found.mean_error)}, "
        f"{found.inside or 0.0:.0%} between the 10th and the 90th percentile; as many purchases "
        f"as in the {found.days_ahead} days before: mean absolute error "
        f"{found.before_absolute_error:.1%}"
    )


def lifetimes_words(splits: Sequence[SplitReport], installed: bool, peer: str) -> str | None:
    """What to say where the predictions of lifetimes are missing."""
    if not installed:
        return "lifetimes is not installed, so its predictions are not shown"
    missing = [
        report.split for report in splits if peer not in {each.name for each in report.comparisons}
    ]
    if missing:
        return f"lifetimes found no fit for {', '.join(missing)}; its predictions are missing there"
    return None
