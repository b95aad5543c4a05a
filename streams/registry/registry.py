"""What the records of `clv.models` come to: parameters, rules, candidates, requests. Pure."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from models.calibration import Calibration
from models.contracts.parameters import Parameters
from models.segments import Rules
from models.timeline import Timeline
from streams.registry.records import (
    CALIBRATION,
    CANDIDATE,
    REQUEST,
    STATE,
    Candidate,
    Request,
    State,
    is_parameters,
    is_rules,
)

Document = TypeVar("Document", bound=BaseModel)


class Registry:
    """The parameters and rules of all times, refused candidates, and how far refits are.

    currency: of the shop; parameters in another one are left out, as workers do it.
    """

    def __init__(self, currency: str) -> None:
        self.published: dict[str, Parameters] = {}
        """By version."""
        self.timeline: Timeline[Parameters] = Timeline()
        self.rules: Timeline[Rules] = Timeline()
        """Of several from the same time the first: two workers may begin a service at once."""
        self.calibrations: dict[str, Calibration] = {}
        """By the version of the parameters, in force or refused, of those that a fitter judged."""
        self.state: State | None = None
        self.request: Request | None = None
        self._currency = currency
        self._candidates: dict[str, Candidate] = {}

    @property
    def candidates(self) -> dict[str, Candidate]:
        """The refused candidates by version, without those that somebody put in force since."""
        return {
            version: each
            for version, each in self._candidates.items()
            if version not in self.published
        }

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take a record in; what is none of ours is ignored."""
        if is_parameters(key):
            found = _read(Parameters, value)
            if found is not None and found.currency == self._currency:
                self.published[found.version] = found
                self.timeline = self.timeline.with_(found)
        elif is_rules(key):
            rules = _read(Rules, value)
            if rules is not None:
                self.rules = self.rules.unless_taken(rules)
        elif key is not None and key.startswith(CANDIDATE):
            version = key.removeprefix(CANDIDATE).decode(errors="replace")
            candidate = _read(Candidate, value)
            if candidate is None:
                self._candidates.pop(version, None)
            else:
                self._candidates[version] = candidate
        elif key is not None and key.startswith(CALIBRATION):
            calibration = _read(Calibration, value)
            if calibration is not None:
                version = key.removeprefix(CALIBRATION).decode(errors="replace")
                self.calibrations[version] = calibration
        elif key == REQUEST:
            self.request = _read(Request, value)
        elif key == STATE:
            self.state = _read(State, value)

    @property
    def done(self) -> State | None:
        """The last refit that came to its end, or will: what it decided on is published."""
        state = self.state
        if state is None or (state.outcome == "publishing" and state.version not in self.published):
            return None
        return state

    @property
    def asked(self) -> Request | None:
        """The request for a refit that has not been obeyed."""
        obeyed = None if self.done is None else self.done.request
        return None if self.request is None or self.request.id == obeyed else self.request


def _read(kind: type[Document], value: bytes | None) -> Document | None:
    if value is None:
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        return None
