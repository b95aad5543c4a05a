"""Parameters for people: how sure each is."""

import pytest
from rich.console import Console

from streams.cli.fit import parameters_table, standard_errors
from tests.test_models.parameters import PARAMETERS


def test_each_parameter_has_the_error_that_its_logarithm_has():
    values = PARAMETERS.purchases.as_dict()
    deviations = dict(zip(values, (0.1, 0.2, 0.3, 0.4), strict=True))
    covariance = tuple(
        tuple(each**2 if one == other else 0.0 for other in values)
        for one, each in deviations.items()
    )
    known = PARAMETERS.model_copy(update={"covariance": covariance})
    for name, error in standard_errors(known).items():
        assert error == pytest.approx(values[name] * deviations[name])
    for parameters, shown in ((known, 4), (known.model_copy(update={"covariance": None}), 0)):
        console = Console(width=120)
        with console.capture() as text:
            console.print(parameters_table(parameters))
        assert text.get().count("±") == shown
