"""The interface of all models of purchases, and their registry.

A model is one file of this package: a frozen dataclass of its parameters that derives from
`PurchaseModel`, is marked with `@registered`, and is imported in `models/btyd/__init__.py`. It
implements its likelihood and closed forms; fitting and derived quantities are here. One test suite
runs over every registered model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray, Numbers, horizon, probability, statistics
from models.btyd._counts import Counts, PlainTail, counts
from models.btyd._crossing import age_at
from models.btyd._fading import Fading
from models.btyd._optimise import Fit, FitError, Maximum, inverse_hessian, maximise
from models.btyd.cells import Cells
from models.btyd.prior import LogNormal, Prior, log_density

UNSTEADINESS: Final = "unsteadiness"

_SMALLEST, _LARGEST = 1e-5, 1e4  # of every fitted parameter, times in units of the longest T
_MANY_CELLS = 20_000  # of which a search begins with a part
_FORGOTTEN = 40.0  # discount e-folds after which a purchase is worth nothing: 4e-18


@dataclass(frozen=True, slots=True)
class PurchaseModel(ABC):
    """How often a customer buys, and whether they still do.

    Statistics are scalars or arrays that broadcast together: x, the number of repeat purchases;
    t_x, the time from the first purchase to the last; T, the time from the first purchase to now,
    all in the time unit of the parameters. Results are float64 arrays of the broadcast shape.
    Raises ValueError for parameters that are not finite and > 0, and for impossible statistics
    (naming the row).

    unsteadiness: how much rates of purchases change after they were seen. Of what is to come, x
    purchases tell as little as x / (1 + unsteadiness x) would if rates did not change; the mean
    rate stays. 0: they do not. No likelihood and no P(alive) depends on it.
    """

    unsteadiness: float = field(default=0.0, kw_only=True)

    name: ClassVar[str]
    """Name in `Parameters.model`, in lower case with hyphens."""
    title: ClassVar[str]
    """Name in texts, such as BG/NBD."""
    times: ClassVar[frozenset[str]]
    """Parameters that are in units of time."""
    least: ClassVar[Mapping[str, float]] = {}
    """Values below which a fitted parameter is as good as at a bound."""

    @abstractmethod
    def log_likelihood(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return each customer's log-likelihood."""

    @abstractmethod
    def mean_log_likelihood(self, cells: Cells) -> tuple[float, FloatArray]:
        """Return the mean log-likelihood of counted customers and its gradient by parameter."""

    @classmethod
    @abstractmethod
    def first_guess(cls, purchase_rate: float) -> Self:
        """Return where a fit starts, from the mean number of repeat purchases per unit of time."""

    def second_guess(self) -> Self | None:
        """Return where a fit that ended here, at a bound, starts again; None if nowhere."""
        return None

    @classmethod
    @abstractmethod
    def weak_prior(cls, week: float = 1.0) -> Prior:
        """Return what is assumed of a shop that has hardly any customers yet.

        week: how many units of time a week has; 7 if the unit is a day.
        """

    @abstractmethod
    def p_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the probability that the customer has not dropped out."""

    def age_at_p_alive(self, bound: Numbers, x: Numbers, t_x: Numbers) -> FloatArray:
        """Return the T at which P(alive) falls to a bound if the customer buys nothing more.

        bound: in (0, 1). The result is t_x if P(alive) is at or below the bound already at t_x, and
        inf if it does not fall to the bound within 1e12 units of time.
        """
        x, t_x, _ = statistics(x, t_x, t_x)
        bound, x, t_x = np.broadcast_arrays(probability(bound), x, t_x)
        return age_at(bound, t_x, lambda T: self.p_alive(x, t_x, T))

    def age_at_p_purchase(self, bound: Numbers, h: Numbers, x: Numbers, t_x: Numbers) -> FloatArray:
        """Return the T at which P(a purchase in (T, T + h]) falls to a bound without purchases.

        bound, and what is returned at its limits, are as for `age_at_p_alive`. There is one such T:
        in every model of this family the time from t_x to the next purchase, never included, is a
        mixture of times with a constant rate, so that its rate falls (Proschan 1963, Technometrics
        5), and with it the probability.
        """
        x, t_x, _ = statistics(x, t_x, t_x)
        bound, h, x, t_x = np.broadcast_arrays(probability(bound), horizon(h), x, t_x)
        return age_at(bound, t_x, lambda T: self.probability_of_at_least(1, h, x, t_x, T))

    @abstractmethod
    def fading(
        self, silence: FloatArray, x: FloatArray, T: FloatArray, p_alive: FloatArray
    ) -> Fading:
        """Return how far the prospects of customers can fall in so much silence.

        p_alive: at T.
        """

    @abstractmethod
    def expected_discounted_purchases(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T + t], each discounted to now.

        discount_rate is δ >= 0, compounded continuously, per unit of time: a purchase s from now
        counts exp(-δ s).
        """

    @abstractmethod
    def expected_time_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the expected time from the first purchase to T that the customer was alive."""

    @abstractmethod
    def expected_discounted_time(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected time in (T, T + t] that the customer is alive, discounted to now."""

    @abstractmethod
    def probability_of_at_least(
        self, n: Numbers, t: Numbers, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the probability of n purchases or more in (T, T + t]; n is a whole number >= 0."""

    def probability_of_any(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the probability of a purchase in (T, T + t]: the `any` of `purchase_counts`."""
        return self.probability_of_at_least(1, t, x, t_x, T)

    def expected_purchases(self, t: Numbers, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the expected number of purchases in (T, T + t]."""
        return self.expected_discounted_purchases(t, 0.0, x, t_x, T)

    def expected_purchases_of_new_customer(self, t: Numbers) -> FloatArray:
        """Return E[X(t)], the expected repeat purchases within t of the first."""
        return self.expected_purchases(t, 0, 0, 0)

    def discounted_residual_purchases(
        self, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected number of all future purchases, each discounted to now (DERT).

        As expected_discounted_purchases without a horizon; discount_rate must be > 0.
        """
        if not (np.isfinite(discount_rate) and discount_rate > 0):
            raise ValueError(f"discount_rate is {discount_rate!r}; it must be finite and > 0")
        return self.expected_discounted_purchases(
            _FORGOTTEN / discount_rate, discount_rate, x, t_x, T
        )

    def purchase_counts(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> Counts:
        """Return how many purchases within t are to be expected, and between which numbers."""

        def at_least(n: float, *customers: FloatArray) -> FloatArray:
            return self.probability_of_at_least(n, t, *customers)

        return counts(PlainTail(at_least, *map(np.ravel, statistics(x, t_x, T))))

    def quantile(
        self, share: float, t: Numbers, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the least n with P(at most n purchases in (T, T + t]) >= share; 0 < share < 1."""
        if not 0 < share < 1:
            raise ValueError(f"share is {share!r}; it must lie between 0 and 1")
        ahead, *customer = np.broadcast_arrays(horizon(t), *statistics(x, t_x, T))

        def is_enough(n: FloatArray) -> npt.NDArray[np.bool_]:
            return self.probability_of_at_least(n + 1.0, ahead, *customer) <= 1.0 - share

        low = np.full(ahead.shape, -1.0)
        high = np.zeros(ahead.shape)
        while not (enough := is_enough(high)).all():
            low = np.where(enough, low, high)
            high = np.where(enough, high, 2.0 * high + 1.0)
        while np.any(high - low > 1.0):
            middle = np.floor((low + high) / 2.0)
            enough = is_enough(np.maximum(middle, 0.0)) & (middle >= 0.0)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return high

    def with_unsteadiness(self, unsteadiness: float) -> Self:
        """Return this model with another unsteadiness; ValueError unless it is finite and >= 0."""
        if not (np.isfinite(unsteadiness) and unsteadiness >= 0):
            raise ValueError(
                f"{self.title}: unsteadiness is {unsteadiness!r}; it must be finite and >= 0"
            )
        return replace(self, unsteadiness=unsteadiness)

    def _rate_to_come(
        self, r: float, alpha: float, x: FloatArray, T: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return shape and scale of the gamma distribution of the rate of who is alive."""
        shape, scale = r + x, alpha + T
        if not self.unsteadiness:
            return shape, scale
        later = r + x / (1.0 + self.unsteadiness * x)
        return later, scale * (later / shape)

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Return the names of the fitted parameters, in the order of the fields."""
        return tuple(each.name for each in fields(cls) if not each.kw_only)

    def as_dict(self) -> dict[str, float]:
        """The fitted parameters by name."""
        return {name: getattr(self, name) for name in self.parameter_names()}

    def document(self) -> dict[str, float]:
        """All that `model_of` needs beside the name: the parameters, and unsteadiness if any."""
        more = {UNSTEADINESS: self.unsteadiness} if self.unsteadiness else {}
        return {**self.as_dict(), **more}

    @classmethod
    def fit(cls, cells: Cells, start: Self | None = None, prior: Prior | None = None) -> Fit[Self]:
        """Estimate the parameters by maximum likelihood from counted customers.

        start: parameters to search from, such as the last fit's. prior: of each parameter, in the
        cells' unit of time, such as `weak_prior`; the estimate is then the maximum of likelihood
        times prior, which needs neither repeat buyers nor time.

        Raises FitError when there are no customers, when none has bought again or no time has
        passed and there is no prior, and when the search does not converge; ValueError unless the
        prior has the model's parameters.
        """
        unit = _unit(cls.title, cells, has_prior=prior is not None)
        # In units of the longest T, so that the search is the same in days and in weeks.
        scaled = Cells(cells.x, cells.t_x / unit, cells.T / unit, cells.number)
        believed = None if prior is None else cls._prior_in_units(prior, unit)
        if start is not None:
            begin = cls(**cls._in_units(start.as_dict(), unit))
        elif believed is not None:
            begin = cls(**{name: each.median for name, each in believed.items()})
        else:
            begin = cls.first_guess(float(cells.number @ cells.x) / float(cells.number @ scaled.T))
        names = list(begin.as_dict())

        def objective(values: FloatArray) -> tuple[float, FloatArray]:
            mean, gradient = cls(*values.tolist()).mean_log_likelihood(scaled)
            if believed is None:
                return mean, gradient
            log_prior, its_gradient = log_density(believed, values)
            customers = cells.customers
            return mean + log_prior / customers, gradient + its_gradient / customers

        def search(begin: Self) -> tuple[Maximum, float]:
            bounds = dict.fromkeys(names, _SMALLEST), dict.fromkeys(names, _LARGEST)
            found = maximise(cls.title, objective, begin.as_dict(), *bounds)
            return found, objective(np.array(list(found.values.values())))[0]

        if start is None and len(cells.x) > _MANY_CELLS:
            # Most of the way on a part of the cells, which are in order: each step costs less.
            with suppress(FitError):
                begin = cls._roughly(scaled, begin)
        best, height = search(begin)
        iterations = best.iterations
        again = cls(**best.values).second_guess() if best.at_bounds else None
        if again is not None:
            with suppress(FitError):  # Then the first search's end stays.
                other, its_height = search(again)
                iterations += other.iterations
                best = other if its_height > height else best
        small = {name for name, least in cls.least.items() if best.values[name] < least}
        at_bounds = tuple(name for name in names if name in small.union(best.at_bounds))
        covariance = None
        if not at_bounds:
            covariance = inverse_hessian(objective, best.values, cells.customers)
        model = cls(**cls._in_units(best.values, 1.0 / unit))
        each = model.log_likelihood(cells.x, cells.t_x, cells.T)
        total = float(cells.number @ each)
        return Fit(model, total, cells.customers, iterations, at_bounds, covariance)

    @classmethod
    def _roughly(cls, cells: Cells, begin: Self) -> Self:
        """Return about where a search on these cells ends."""
        step = math.ceil(len(cells.x) / _MANY_CELLS)
        part = Cells(*(column[::step] for column in (cells.x, cells.t_x, cells.T, cells.number)))
        bounds = (dict.fromkeys(begin.as_dict(), limit) for limit in (_SMALLEST, _LARGEST))
        found = maximise(
            cls.title,
            lambda values: cls(*values.tolist()).mean_log_likelihood(part),
            begin.as_dict(),
            *bounds,
        )
        return begin if found.at_bounds else cls(**found.values)

    @classmethod
    def _prior_in_units(cls, prior: Prior, unit: float) -> Prior:
        """Convert a prior to another time unit; its parameters in the order of the fields."""
        names = cls.parameter_names()
        if prior.keys() != set(names):
            raise ValueError(f"{cls.title}: a prior must be of the parameters {', '.join(names)}")
        medians = cls._in_units({name: prior[name].median for name in names}, unit)
        return {name: LogNormal(medians[name], prior[name].deviation) for name in names}

    @classmethod
    def _in_units(cls, parameters: Mapping[str, float], unit: float) -> dict[str, float]:
        """Convert parameters to another time unit, given as `unit` of the present ones."""
        return {
            name: value / unit if name in cls.times else value for name, value in parameters.items()
        }


def _unit(title: str, cells: Cells, *, has_prior: bool) -> float:
    """Return the longest T, or 1 if it is 0; raises FitError if the population cannot be fitted."""
    customers = cells.customers
    if customers == 0:
        raise FitError(f"{title}: no customers to fit on; load orders first")
    longest = float(cells.T.max())
    if has_prior:
        return longest or 1.0
    if not np.any(cells.number * cells.x):
        raise FitError(
            f"{title}: none of {customers} customers has a repeat purchase, so rate and dropout "
            "cannot be told apart; fit on a longer period or with a prior, or keep the previous "
            "parameters"
        )
    if longest == 0:
        raise FitError(
            f"{title}: T is 0 for all {customers} customers, no time has passed since their first "
            "purchases; fit on a longer period or with a prior"
        )
    return longest


MODELS: Final[dict[str, type[PurchaseModel]]] = {}
"""Every model by its name."""

Model = TypeVar("Model", bound=type[PurchaseModel])


def registered(model: Model) -> Model:
    """Add a model to `MODELS`."""
    MODELS[model.name] = model
    return model


def model_of(name: str, parameters: Mapping[str, Any]) -> PurchaseModel:
    """Return the model of this name with these parameters; ValueError if they do not fit it."""
    model = MODELS.get(name)
    if model is None:
        raise ValueError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    names = set(model.parameter_names())
    if parameters.keys() - {UNSTEADINESS} != names:
        raise ValueError(
            f"{model.title} has the parameters {', '.join(sorted(names))}, not "
            f"{', '.join(sorted(map(str, parameters))) or 'none'}"
        )
    try:
        given = {each: float(value) for each, value in parameters.items()}
        unsteadiness = given.pop(UNSTEADINESS, 0.0)
        return model(**given).with_unsteadiness(unsteadiness)
    except TypeError as error:
        raise ValueError(f"{model.title}: {error}") from None
