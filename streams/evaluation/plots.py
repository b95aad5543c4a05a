"""Plots as SVG elements for a page of HTML, whose style sheet has their colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 480
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 64, 10, 12, 40

Points = Sequence[tuple[float, float]]


def lines(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Points],
    band: tuple[Points, Points] | None = None,
) -> str:
    """Draw curves over a number from 0 on; the first series is class s0, the second s1, …

    band: two curves, between which it is shaded.
    """
    low, high = band or ((), ())
    points = [point for each in (*series.values(), low, high) for point in each]
    frame = _Frame(
        min(x for x, _ in points), max(x for x, _ in points), [y for _, y in points] + [0.0]
    )
    parts = [frame.grid(x_label, y_label), frame.x_ticks()]
    if band is not None:
        parts.append(f'<polygon class="band" points="{frame.path([*low, *reversed(high)])}"/>')
    for number, (name, each) in enumerate(series.items()):
        path = frame.path(each)
        parts.append(
            f'<polyline class="line s{number}" points="{path}"><title>{escape(name)}</title>'
            "</polyline>"
        )
    return _svg(title, parts)


def bars(
    title: str,
    x_label: str,
    y_label: str,
    *,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    reference: float | None = None,
) -> str:
    """Draw bars side by side for each label; reference: where a line is drawn."""
    values = [value for each in series.values() for value in each]
    frame = _Frame(0.0, float(len(labels)), [*values, 0.0, reference or 0.0])
    parts = [frame.grid(x_label, y_label)]
    width = 0.76 / len(series)
    for number, (name, each) in enumerate(series.items()):
        for place, (label, value) in enumerate(zip(labels, each, strict=True)):
            left = frame.x(place + 0.12 + number * width)
            top, bottom = sorted((frame.y(value), frame.y(0.0)))
            parts.append(
                f'<rect class="bar s{number}" x="{left:.1f}" y="{top:.1f}" '
                f'width="{frame.x(width) - frame.x(0):.1f}" height="{bottom - top:.1f}">'
                f"<title>{escape(f'{label}, {name}: {value:,.4g}')}</title></rect>"
            )
    for place, label in enumerate(labels):
        parts.append(_text(frame.x(place + 0.5), HEIGHT - BOTTOM + 14, label, "middle"))
    if reference is not None:
        y = frame.y(reference)
        parts.append(
            f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    return _svg(title, parts)


class _Frame:
    """The axes: from numbers to places."""

    def __init__(self, first: float, last: float, values: Sequence[float]) -> None:
        self._first, self._last = first, last if last > first else first + 1.0
        low, high = min(values), max(values)
        self._step = _step(high - low)
        self._low = math.floor(low / self._step) * self._step
        self._high = max(math.ceil(high / self._step) * self._step, self._low + self._step)

    def x(self, value: float) -> float:
        share = (value - self._first) / (self._last - self._first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    def grid(self, x_label: str, y_label: str) -> str:
        place = f"translate(12 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)"
        parts = [
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"),
            f'<text transform="{place}" text-anchor="middle">{escape(y_label)}</text>',
        ]
        for number in range(round((self._high - self._low) / self._step) + 1):
            value = self._low + number * self._step
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(_text(LEFT - 5, y + 4, _short(value), "end"))
        return "".join(parts)

    def x_ticks(self) -> str:
        step = _step(self._last - self._first)
        first = math.ceil(self._first / step)
        return "".join(
            _text(self.x(number * step), HEIGHT - BOTTOM + 14, _short(number * step), "middle")
            for number in range(first, math.floor(self._last / step) + 1)
        )


def _step(span: float) -> float:
    """Return a round number that divides a span into about five."""
    if not span > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / 5.0))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power * 5.0 >= span)


def _short(value: float) -> str:
    value = round(value, 10)
    return f"{value / 1_000:,.6g}k" if abs(value) >= 10_000 else f"{value:,.6g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
