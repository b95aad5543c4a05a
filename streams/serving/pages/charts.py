"""Geometry of the charts: their texts are HTML, so that they stay readable on a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600.0, 160.0


class Bar(NamedTuple):
    """A horizontal bar: where it begins, and how long it is, in percent."""

    begin: float
    length: float


class Step(NamedTuple):
    """A line of a waterfall. kind: "gain", "loss" or "total"."""

    label: str
    amount: float
    kind: str
    bar: Bar


class Curve(NamedTuple):
    """A curve over time. line, area: SVG paths; marks: where days are pointed at."""

    line: str
    area: str
    zero: float
    top: str
    bottom: str
    first: int
    last: int
    marks: Sequence[float]


def bars(amounts: Sequence[float]) -> list[Bar]:
    """Return bars from 0 on, of which the longest is as long as can be."""
    longest = max(map(abs, amounts), default=0.0) or 1.0
    return [Bar(0.0, round(100 * abs(amount) / longest, 2)) for amount in amounts]


def waterfall(lines: Sequence[tuple[str, float, bool]]) -> list[Step]:
    """Return the lines of a waterfall: label, amount, and whether it is a sum of those before."""
    ends, level = [0.0], 0.0
    spans: list[tuple[float, float]] = []
    for _, amount, total in lines:
        begin, level = (0.0, amount) if total else (level, level + amount)
        spans.append((min(begin, level), max(begin, level)))
        ends += [begin, level]
    low, width = min(ends), (max(ends) - min(ends)) or 1.0
    return [
        Step(
            label,
            amount,
            "total" if total else "loss" if amount < 0 else "gain",
            Bar(round(100 * (begin - low) / width, 2), round(100 * (end - begin) / width, 2)),
        )
        for (label, amount, total), (begin, end) in zip(lines, spans, strict=True)
    ]


def curve(
    points: Sequence[tuple[int, float]],
    shown: Callable[[float], str],
    *,
    bounds: tuple[float, float] | None = None,
    marks: Sequence[int] = (),
) -> Curve | None:
    """Return a curve through points of time (milliseconds since 1970) and number.

    shown: how a number is written. None for fewer than two points.
    """
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    begin, end = points[0][0], points[-1][0]
    numbers = [number for _, number in points]
    low, high = bounds or (min(0.0, *numbers), max(0.0, *numbers))
    height = (high - low) or 1.0

    def x(moment: int) -> float:
        return round(WIDTH * (moment - begin) / (end - begin), 1)

    def y(number: float) -> float:
        return round(HEIGHT * (high - number) / height, 1)

    line = "L".join(f"{x(moment)} {y(number)}" for moment, number in points)
    zero = y(max(low, 0.0))
    area = f"M0 {zero}L{line}L{WIDTH} {zero}Z"
    return Curve(
        f"M{line}", area, zero, shown(high), shown(low), begin, end, [x(each) for each in marks]
    )


def places(moments: Sequence[int], begin: int, end: int) -> list[float]:
    """Return where those of these moments that are on a line of time are on it.

    In units of the chart's width.
    """
    length = max(end - begin, 1)
    on_it = [moment for moment in moments if begin <= moment <= end]
    return [round(WIDTH * (moment - begin) / length, 1) for moment in on_it]
