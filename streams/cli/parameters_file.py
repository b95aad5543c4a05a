"""Fitted parameters in a file, as `clv fit --output` writes them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from models.contracts.parameters import Parameters
from streams.bounded import TooLarge, read_whole
from streams.cli.console import CommandError

MOST_PARAMETERS = 1024 * 1024
"""Bytes of a file of fitted parameters, which takes some hundred."""


def read_parameters(path: Path, currency: str) -> Parameters:
    """Parameters from a file; CommandError when they are not, or are for another currency."""
    try:
        found = Parameters.model_validate_json(read_whole(path, MOST_PARAMETERS))
    except TooLarge as error:
        raise CommandError(f"{path}: these are no parameters: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise CommandError(
            f"{path}: these are no parameters: {where}: {problem['msg']}; "
            "write them by `clv fit --output`"
        ) from error
    if found.currency != currency:
        raise CommandError(
            f"{path}: the parameters are in {found.currency}, the values would be in {currency}; "
            f"fit on orders in {currency}, or set CLV_ECONOMICS__CURRENCY"
        )
    return found
