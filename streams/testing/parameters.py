"""A simulated feed of parameters: what a test gives is in use at once."""

from __future__ import annotations

from models.contracts.parameters import Parameters


class MemoryParameters:
    """Simulated: the parameters in use, in place of `ParameterFeed`.

    currency: the shop's; ValueError for parameters in another one, which workers refuse.
    """

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._current: Parameters | None = None
        self._seen: set[str] = set()

    @property
    def current(self) -> Parameters | None:
        """The parameters to use now."""
        return self._current

    def use(self, parameters: Parameters | None) -> None:
        """Use these from now on."""
        if parameters is not None:
            check_currency(parameters, self._currency)
            self._seen.add(parameters.version)
        self._current = parameters

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Say whether parameters of this version were given; they do not come by themselves."""
        del timeout
        return version in self._seen


def check_currency(parameters: Parameters, currency: str) -> None:
    """Raise ValueError for parameters in another currency than the shop's."""
    if parameters.currency != currency:
        raise ValueError(
            f"parameters {parameters.version!r} are in {parameters.currency}, the shop's currency "
            f"is {currency}; fit them in that, or change clv_settings"
        )
