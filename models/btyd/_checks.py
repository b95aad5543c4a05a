"""Checks of the models' parameters and of the statistics that they are given."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Numbers = npt.ArrayLike
"""A number, or an array of them."""


def require_positive(model: str, **parameters: float) -> None:
    """Raise ValueError unless every parameter is a finite number above zero."""
    for name, value in parameters.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{model}: parameter {name} is {value!r}; it must be finite and > 0")


def refuse_rows(wrong: npt.NDArray[np.bool_], problem: str, **columns: FloatArray) -> None:
    """Raise ValueError naming the first wrong row, its values and what is wrong with it."""
    if not wrong.any():
        return
    row = int(np.argmax(wrong.reshape(-1)))
    values = ", ".join(
        f"{name}={np.broadcast_to(column, wrong.shape).reshape(-1)[row]:g}"
        for name, column in columns.items()
    )
    more = int(np.count_nonzero(wrong)) - 1
    others = f" ({more} more rows like it)" if more else ""
    raise ValueError(f"row {row} ({values}): {problem}{others}")


def same_shape(*numbers: Numbers) -> tuple[FloatArray, ...]:
    """Return numbers broadcast to one shape, as float64."""
    arrays = tuple(np.asarray(each, dtype=np.float64) for each in numbers)
    # Most have one shape already, and broadcasting takes longer than the checks of a few rows.
    if len({each.shape for each in arrays}) == 1:
        return arrays
    return np.broadcast_arrays(*arrays)


def statistics(
    x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x, t_x and T broadcast to one shape, as float64; ValueError names a wrong row.

    x: repeat purchases, a whole number >= 0. t_x: time from the first to the last purchase, 0 when
    x = 0. T: time from the first purchase to the end of observation, T >= t_x.
    """
    frequency, recency, age = same_shape(x, t_x, T)
    with np.errstate(invalid="ignore"):
        fine = (
            (frequency >= 0)
            & (frequency == np.floor(frequency))
            & (recency >= 0)
            & (recency <= age)
            & ((frequency > 0) | (recency == 0))
            & (frequency < np.inf)
            & (age < np.inf)
        )
    if not fine.all():
        _explain(frequency, recency, age)
    return frequency, recency, age


def _explain(x: FloatArray, t_x: FloatArray, T: FloatArray) -> None:
    columns = {"x": x, "t_x": t_x, "T": T}
    finite = np.isfinite(x) & np.isfinite(t_x) & np.isfinite(T)
    refuse_rows(~finite, "x, t_x and T must be finite", **columns)
    refuse_rows((x < 0) | (x != np.floor(x)), "x must be a whole number >= 0", **columns)
    refuse_rows(t_x < 0, "t_x must be >= 0", **columns)
    refuse_rows(t_x > T, "t_x must not exceed T", **columns)
    refuse_rows((x == 0) & (t_x != 0), "x = 0 (no repeat purchase) requires t_x = 0", **columns)


def horizon(t: npt.ArrayLike) -> FloatArray:
    """Return the horizon t as float64; ValueError unless it is finite and >= 0."""
    ahead = np.asarray(t, dtype=np.float64)
    refuse_rows(~(np.isfinite(ahead) & (ahead >= 0)), "the horizon must be finite, >= 0", t=ahead)
    return ahead


def probability(bound: npt.ArrayLike) -> FloatArray:
    """Return a probability as float64; ValueError unless it lies strictly between 0 and 1."""
    share = np.asarray(bound, dtype=np.float64)
    refuse_rows(~((share > 0) & (share < 1)), "a bound must lie between 0 and 1", bound=share)
    return share


def discounting(discount_rate: float) -> float:
    """Return the discount rate; ValueError unless it is finite and >= 0."""
    if not (np.isfinite(discount_rate) and discount_rate >= 0):
        raise ValueError(f"discount_rate is {discount_rate!r}; it must be finite and >= 0")
    return discount_rate


def whole_number(n: npt.ArrayLike) -> FloatArray:
    """Return a number of purchases as float64; ValueError names one that is not whole and >= 0."""
    number = np.asarray(n, dtype=np.float64)
    whole = np.isfinite(number) & (number >= 0) & (number == np.floor(number))
    refuse_rows(~whole, "n must be a whole number >= 0", n=number)
    return number
