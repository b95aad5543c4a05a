"""Between which bounds a feature stays while nothing happens, without computing it again.

The bounds are safe and cheap, not tight: they tell for nearly all customers that no segment can
change, so that only the others need to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.btyd._fading import Fading
from models.contracts.parameters import Parameters
from models.features.feature import Columns, Feature, Floats, Silence
from models.value import Values

SLACK: Final = 1e-6
"""Relative; a feature that is computed anew may differ by its rounding, which is far less."""

Bounds = tuple[Any, Any]
"""Lower and upper bound, each a column; the same one for a feature that stays."""


class Reach:
    """What the features of some rows may become in silence.

    columns: those that are asked for. values: of the same rows. rows: which of them, and ahead: in
    so many days each; a row may come several times. parameters: theirs. steps: whether features
    that move in steps may do so.
    """

    def __init__(
        self,
        columns: Columns,
        values: Values,
        rows: NDArray[np.intp],
        ahead: Floats,
        parameters: Parameters,
        *,
        steps: bool,
    ) -> None:
        self._columns = columns
        self._values = values
        self._rows = rows
        self.ahead = ahead
        self._parameters = parameters
        self._steps = steps
        self._known: dict[str, Bounds] = {}

    def bounds(self, feature: Feature) -> Bounds:
        """Return the bounds of a feature; nan, which is compared with nothing, stays nan."""
        known = self._known.get(feature.name)
        if known is None:
            known = self._known[feature.name] = self._bounds(feature)
        return known

    def _bounds(self, feature: Feature) -> Bounds:
        now: Any = self._columns[feature.name][self._rows]
        if feature.silence is Silence.STAYS or (
            feature.silence is Silence.STEPS and not self._steps
        ):
            return now, now
        if feature.silence is Silence.STEPS:
            return -np.inf, np.inf
        if feature.of is None:
            return now, now + self.ahead
        moves = _MOVES.get(feature.name)
        return (-np.inf, np.inf) if moves is None else moves(self, now)

    def of(self, name: str) -> Floats:
        """Return a column of the values."""
        column: Floats = getattr(self._values, name)[self._rows]
        return column

    @cached_property
    def fading(self) -> Fading:
        """How far prospects may fall; those of who has not bought stay."""
        unit, p_alive = self._parameters.unit_days, self.of("p_alive")
        of = self.ahead / unit, self.of("frequency"), self.of("T") / unit, p_alive
        bought = ~np.isnan(p_alive)
        fading = self._parameters.purchases.fading(*of)
        return Fading(*(np.where(bought, each, 1.0) for each in fading))

    @cached_property
    def share(self) -> Floats:
        """What is left at least of P(purchase) and of expected purchases."""
        share: Floats = self.fading.alive * self.fading.pace * (1.0 - SLACK)
        return share

    @cached_property
    def support(self) -> Bounds:
        """Bounds of the expected cost of contacts.

        Their rate is (shape + n) / (rate + t) of a time t alive, which grows by no more than the
        silence, and falls by no more than P(alive) does.
        """
        cost, parameters = self.of("expected_support_cost"), self._parameters
        if parameters.contacts is None or parameters.contacts_per == "purchase":
            return cost * self.share, cost * (1.0 + SLACK)
        unit, fading = parameters.unit_days, self.fading
        alive = parameters.contacts.rate + self.of("recency") / unit
        rate = alive / (alive + self.ahead / unit)
        return cost * fading.alive * rate * (1.0 - SLACK), cost * fading.longer * (1.0 + SLACK)

    def falling(self, now: Floats) -> Bounds:
        """Return the bounds of what falls with the expected purchases; it may be negative."""
        then = now * self.share
        more = now * (1.0 + SLACK)
        return np.minimum(then, more), np.maximum(then, more)

    def expected(self) -> Bounds:
        """Return the bounds of the expected value."""
        margin = self.of("expected_purchases") * self.of("margin_per_purchase")
        if self._parameters.contacts_per == "purchase" or self._parameters.contacts is None:
            return self.falling(self.of("expected"))
        (low, high), (least, most) = self.falling(margin), self.support
        return low - most, high - least

    def value(self) -> Bounds:
        """Return the bounds of the value."""
        realised = self.of("realised")
        low, high = self.expected()
        return realised + low, realised + high


def _alive(of: Reach, now: Floats) -> Bounds:
    return now * (of.fading.alive * (1.0 - SLACK)), now * (1.0 + SLACK)


_MOVES: Final[Mapping[str, Callable[[Reach, Floats], Bounds]]] = {
    "T": lambda of, now: (now, now + of.ahead),
    "days_since_last_order": lambda of, now: (now, now + of.ahead),
    "silent_gaps": lambda of, now: (now, now + of.ahead / of.of("mean_gap") * (1.0 + SLACK)),
    "p_alive": _alive,
    "p_purchase": Reach.falling,
    "expected_purchases": Reach.falling,
    "expected_revenue": Reach.falling,
    "expected_margin": Reach.falling,
    "expected_support_cost": lambda of, _: of.support,
    "expected": lambda of, _: of.expected(),
    "clv": lambda of, _: of.value(),
}
"""By feature, of those that move daily and are read from values; others may become anything."""
