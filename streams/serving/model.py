"""The routes of the model: the parameters that hold last, and how well their kind predicted."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from models.calibration import Calibration
from models.contracts.parameters import Parameters
from streams.registry.reading import read_registry
from streams.registry.registry import Registry
from streams.serving.problems import Problem, documented
from streams.serving.sources import Sources

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}


class VersionCalibration(Calibration):
    """version: of the parameters that were judged by it."""

    version: str


def add_routes(v1: APIRouter, sources: Sources) -> None:
    """Add the routes."""
    missing = documented(HTTPStatus.NOT_FOUND)

    async def registry() -> Registry:
        settings = sources.settings
        return await read_registry(
            sources.broker, settings.topics.models, settings.economics.currency
        )

    @v1.get("/model", response_model=Parameters, responses=missing)
    async def model() -> Response:
        """Return the fitted parameters that hold last."""
        latest = (await registry()).timeline.latest
        if latest is None:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                "no parameters are published yet: values come from weak prior ones; run "
                "`clv fitter`, or `clv fit --topics --publish`",
            )
        return Response(latest.model_dump_json(), media_type=_JSON, headers=_NO_STORE)

    @v1.get("/model/calibration", response_model=VersionCalibration, responses=missing)
    async def calibration() -> VersionCalibration:
        """Return what was expected of held-out days, and what came, for these parameters."""
        known = await registry()
        latest = known.timeline.latest
        found = latest and known.calibrations.get(latest.version)
        if latest is None or found is None:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                "no calibration is published with the parameters that hold last: `clv fitter` "
                "measures it when it judges parameters",
            )
        return VersionCalibration(version=latest.version, **found.model_dump())
