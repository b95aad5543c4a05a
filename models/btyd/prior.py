"""What is assumed of a model's parameters before there is data."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from models.btyd._checks import FloatArray


class LogNormal(NamedTuple):
    """A parameter's prior: its logarithm is normal around ln(median), with this deviation."""

    median: float
    deviation: float


Prior = Mapping[str, LogNormal]
"""One for each parameter of a model, by name; all are independent."""

UNSTEADINESS: Final = LogNormal(0.1, 1.0)
"""What is assumed of the unsteadiness of a shop that has not been measured: real ones had .04 to
.2."""


VALUE_UNSTEADINESS: Final = LogNormal(0.3, 1.0)
"""The same of the values of purchases: real shops had .2 to 6."""


def log_density(prior: Prior, values: FloatArray) -> tuple[float, FloatArray]:
    """Return the log-density of the logarithms, up to a constant, and its gradient by parameter.

    values: of the parameters, in the order of the prior.
    """
    median, deviation = np.array(list(prior.values())).T
    distance = np.log(values / median) / deviation
    return -0.5 * float(distance @ distance), -distance / deviation / values
