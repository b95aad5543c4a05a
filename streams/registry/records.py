"""The records of `clv.models`: parameters by version; and under keys with a slash everything else.

`rules/VERSION`: rules of segments. `candidate/VERSION`: parameters that were refused, and why.
`calibration/VERSION`: how well parameters of this kind predicted days they had not seen.
`refit/request`: somebody asks for a refit. `refit/state`: how far the fitter is.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from pydantic import AwareDatetime, BaseModel, ConfigDict

from models.contracts.parameters import Parameters

CANDIDATE: Final = b"candidate/"
CALIBRATION: Final = b"calibration/"
REQUEST: Final = b"refit/request"
STATE: Final = b"refit/state"
RULES: Final = b"rules/"

Outcome = Literal["publishing", "published", "unchanged", "refused", "impossible"]
"""publishing: the parameters are decided, and perhaps not all customers are told to be scored.
unchanged: they are those in force. impossible: there was nothing to fit, or it did not converge."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Candidate(_Document):
    """Parameters that were not put in force, and the reasons in words."""

    parameters: Parameters
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    judged_at: AwareDatetime


class Request(_Document):
    """Somebody asks for a refit, once; id: a text that no other request has."""

    id: str
    asked_at: AwareDatetime


class State(_Document):
    """The last refit: when, what came of it, and the last request that it obeyed."""

    at: AwareDatetime
    outcome: Outcome
    version: str | None = None
    reasons: tuple[str, ...] = ()
    request: str | None = None


def candidate_key(version: str) -> bytes:
    """Return the key of a refused candidate's record."""
    return CANDIDATE + version.encode()


def calibration_key(version: str) -> bytes:
    """Return the key of the record of a version's calibration."""
    return CALIBRATION + version.encode()


def rules_key(version: str) -> bytes:
    """Return the key of a record of rules; also what a reader waits for."""
    return RULES + version.encode()


def is_rules(key: bytes | None) -> bool:
    """Return whether a record of the topic is of rules."""
    return key is not None and key.startswith(RULES)


def came_into_force(key: bytes | None, value: bytes | None) -> bool:
    """Return whether a record is of rules that were put in force while the service ran.

    Those that have always held are a worker's configuration.
    """
    if not is_rules(key) or value is None:
        return False
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("holds_from") is not None


def is_parameters(key: bytes | None) -> bool:
    """Return whether a record of the topic is of parameters: no version has a slash."""
    return key is None or b"/" not in key
