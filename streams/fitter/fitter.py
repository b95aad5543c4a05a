"""Refits: fit a candidate, judge it, publish it or keep it with the reasons against it.

The fitter holds nothing that the topics do not. It notes in `clv.models` what it is about to
publish, so that one that takes over after a crash finishes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from zoneinfo import ZoneInfo

import structlog
from pydantic import BaseModel

from models import calendar
from models.btyd import FitError
from models.calendar import milliseconds
from models.candidates import Verdict, drift, fit_candidate, judge, same
from models.contracts.parameters import Parameters
from models.fitting import DEFAULT_MODEL, Fitted, TimeUnit
from streams.fitter.customers import Customers, following_customers
from streams.fitter.due import due, in_force, next_refit, rested
from streams.fitter.publishing import put_in_force, score_everybody
from streams.kafka.connection import Broker
from streams.metrics.meters import FitterMeters
from streams.parameters import ParametersPublished
from streams.registry.reading import RegistryReader, registry_reader, write_document
from streams.registry.records import (
    STATE,
    Candidate,
    Outcome,
    State,
    calibration_key,
    candidate_key,
)
from streams.registry.registry import Registry
from streams.settings import Settings
from streams.topics import changelog_topic

log = structlog.get_logger(__name__)

CHECK = timedelta(hours=1)
"""How often drift is looked at, and the changelog's number of partitions."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is fitted. model: of purchases, or `choosing.AUTO`."""

    model: str = DEFAULT_MODEL
    time_unit: TimeUnit = "day"


class Fitter:
    """Refits on the population of `customers`, by what `reader` has of `clv.models`."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        customers: Customers,
        reader: RegistryReader,
        *,
        kind: Kind,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.customers = customers
        self.ready = False
        """Whether everything that there was at the start has been read."""
        self._settings = settings
        self._broker = broker
        self._reader = reader
        self._kind = kind
        self.now = now
        self.every: timedelta | None = None
        """Time between two refits; None while it does not refit by itself."""
        self.meters = FitterMeters()
        self._checked = datetime.fromtimestamp(0, UTC)

    @property
    def registry(self) -> Registry:
        """What `clv.models` held when it was read last."""
        return self._reader.registry

    async def catch_up(self) -> None:
        """Read everything there is, and finish what was begun. Errors: as of `Customers.read`."""
        while not await self.customers.read():
            pass
        registry = await self._reader.read()
        self.ready = True
        state = registry.state
        if state is None or state.outcome != "publishing" or state.version is None:
            return
        begun = registry.published.get(state.version)
        if begun is not None:
            log.info("a publication that was interrupted is finished", version=state.version)
            await score_everybody(self._settings, self._broker, self.customers.partitions, begun)
            await self._note(state.model_copy(update={"outcome": "published"}))

    async def run(self, every: timedelta) -> None:
        """Refit whenever it is due, until cancelled. Errors: as of `Customers.read`."""
        self.every = every
        await self.catch_up()
        self._tell_next(every)
        while True:
            await self.customers.read()
            registry = await self._reader.read()
            why = due(registry, self.customers.population.buyers, self.now(), every)
            if why is None:
                why = await self._check()
            if why is not None:
                log.info("refit", why=why)
                await self.refit()
                self._tell_next(every)

    async def refit(self) -> State:
        """Fit now, and publish the parameters or not; return what came of it."""
        began = monotonic()
        state = await self._refit()
        self.meters.refits[state.outcome] += 1
        self.meters.seconds.observe(monotonic() - began)
        return state

    async def _refit(self) -> State:
        await self.customers.apply()
        now, registry = self.now(), self.registry
        request = None if registry.request is None else registry.request.id
        current = in_force(registry, now)

        async def done(
            outcome: Outcome, version: str | None = None, reasons: tuple[str, ...] = ()
        ) -> State:
            state = State(
                at=now, outcome=outcome, version=version, reasons=reasons, request=request
            )
            await self._note(state)
            if outcome != "publishing":
                tell = log.warning if reasons else log.info
                tell("refitted", outcome=outcome, version=version, reasons=list(reasons))
            return state

        try:
            fitted = await asyncio.to_thread(self._fit, now, current)
        except FitError as error:
            return await done("impossible", reasons=(str(error),))
        candidate = fitted.parameters
        if current is not None and same(candidate, current):
            return await done("unchanged", current.version)
        candidate = candidate.model_copy(update={"version": _free(candidate.version, registry)})
        verdict = await asyncio.to_thread(self._judge, candidate, current, now)
        if verdict.calibration is not None:
            await self._write(calibration_key(candidate.version), verdict.calibration)
        if not verdict.passes:
            await self._write(
                candidate_key(candidate.version),
                Candidate(
                    parameters=candidate,
                    reasons=verdict.reasons,
                    notes=(*verdict.notes, *fitted.notes),
                    judged_at=now,
                ),
            )
            return await done("refused", candidate.version, verdict.reasons)
        await done("publishing", candidate.version)
        holding = candidate.model_copy(update={"holds_from": now})
        try:
            await put_in_force(self._settings, self._broker, self.customers.partitions, holding)
        except ParametersPublished:
            # Another fitter has come to the same a moment earlier.
            return await done("unchanged", candidate.version)
        return await done("published", candidate.version)

    async def _check(self) -> str | None:
        """Look at drift, once an hour; return why a refit is due, or None."""
        now = self.now()
        if now < self._checked + CHECK:
            return None
        self._checked = now
        await self.customers.check()
        current = in_force(self.registry, now)
        if current is None or not rested(self.registry, now):
            return None
        found = await asyncio.to_thread(drift, self.customers.population, current, self._today(now))
        return f"drift: {found.text}" if found.found else None

    def _fit(self, now: datetime, current: Parameters | None) -> Fitted:
        zone = ZoneInfo(self._settings.economics.timezone)
        day = calendar.end_of_day(now.astimezone(zone).date(), zone)
        return fit_candidate(
            self.customers.population,
            until=calendar.last_millisecond(day),
            economics=self._settings.economics,
            in_force=current,
            model=self._kind.model,
            time_unit=self._kind.time_unit,
        )

    def _judge(self, candidate: Parameters, current: Parameters | None, now: datetime) -> Verdict:
        zone = ZoneInfo(self._settings.economics.timezone)
        begun = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return judge(
            candidate,
            current,
            self.customers.population,
            self._today(now),
            passed=min((now - begun) / timedelta(days=1), 1.0),
        )

    def _today(self, now: datetime) -> int:
        return self._settings.economics.day(milliseconds(now))

    async def _note(self, state: State) -> None:
        await self._write(STATE, state)

    async def _write(self, key: bytes, document: BaseModel) -> None:
        offset = await write_document(self._broker, self._settings.topics.models, key, document)
        await self._reader.read(offset)

    def _tell_next(self, every: timedelta) -> None:
        current = in_force(self.registry, self.now())
        log.info(
            "waiting",
            customers=len(self.customers.population),
            parameters=None if current is None else current.version,
            next_refit=next_refit(self.registry, self.now(), every).isoformat(),
        )


@asynccontextmanager
async def fitting(
    settings: Settings,
    broker: Broker,
    partitions: int,
    *,
    kind: Kind,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Fitter]:
    """Open a fitter of a service whose topics are there. Errors: KafkaError, OSError."""
    changelog, economics = changelog_topic(settings), settings.economics
    async with (
        following_customers(broker, changelog, partitions, economics) as customers,
        registry_reader(broker, settings.topics.models, economics.currency) as reader,
    ):
        yield Fitter(settings, broker, customers, reader, kind=kind, now=now)


def _free(version: str, registry: Registry) -> str:
    """Return the version, or one like it if earlier parameters of the same content have it."""
    number, found = 2, version
    while found in registry.published:
        found, number = f"{version}-{number}", number + 1
    return found
