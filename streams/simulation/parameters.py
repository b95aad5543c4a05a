"""A simulated feed of parameters and rules: what a test gives is in use at once."""

from __future__ import annotations

from models.contracts.parameters import Parameters
from models.segments import Rules
from models.timeline import Timeline
from streams.registry.records import rules_key


class MemoryParameters:
    """Simulated: the parameters in use, in place of `ParameterFeed`.

    currency: the shop's. rules: those that hold from the beginning.
    """

    def __init__(self, currency: str, rules: Rules) -> None:
        self._currency = currency
        self._rules = Timeline((rules,))
        self._timeline: Timeline[Parameters] = Timeline()
        self._seen: set[str] = set()

    @property
    def timeline(self) -> Timeline[Parameters]:
        """The parameters given so far."""
        return self._timeline

    def use(self, parameters: Parameters | None) -> None:
        """Use these too, from when they hold; None: none of those given so far."""
        if parameters is None:
            self._timeline = Timeline()
            return
        check_currency(parameters, self._currency)
        self._seen.add(parameters.version)
        self._timeline = self._timeline.with_(parameters)

    @property
    def rules(self) -> Timeline[Rules]:
        """The rules given so far."""
        return self._rules

    def use_rules(self, rules: Rules) -> None:
        """Use these too, from when they hold."""
        self._seen.add(rules_key(rules.version).decode())
        self._rules = self._rules.with_(rules)

    async def caught_up(self) -> None:
        """Do nothing: what was given has arrived."""

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Say whether parameters or rules were given; they do not come by themselves."""
        del timeout
        return version in self._seen


def check_currency(parameters: Parameters, currency: str) -> None:
    """Raise ValueError for parameters in another currency than the shop's."""
    if parameters.currency != currency:
        raise ValueError(
            f"parameters {parameters.version!r} are in {parameters.currency}, the shop's currency "
            f"is {currency}; fit them in that, or change clv_settings"
        )
