"""Parameters and rules from `clv.models`: every worker reads all, and from when they hold."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol, Self

import msgspec
import structlog
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from models.errors import ClvError
from models.segments import Rules
from models.timeline import Timeline
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import Follower, follower
from streams.registry.reading import read_registry, write_document
from streams.registry.records import is_parameters, is_rules, rules_key

log = structlog.get_logger(__name__)

_POLL_MILLISECONDS = 100
"""Short, because a worker that has got partitions waits for two reads."""


class Feed(Protocol):
    """The published parameters, from `ParameterFeed` or a simulation."""

    @property
    def timeline(self) -> Timeline[Parameters]:
        """The parameters published so far; another object when there are more."""

    @property
    def rules(self) -> Timeline[Rules]:
        """The rules published so far; another object when there are more."""

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until parameters of this version have arrived; say whether they have.

        Rules are waited for by their key, `rules/VERSION`.
        """

    async def caught_up(self) -> None:
        """Wait until everything that was published before the call has arrived."""


class ParameterFeed:
    """The published parameters and rules, kept current by a consumer without a group.

    Used as an async context manager: on entry everything already published has been read.
    Parameters in another currency than the one given are refused.
    """

    def __init__(self, broker: Broker, topic: str, currency: str | None = None) -> None:
        self._broker = broker
        self._partition = TopicPartition(topic, 0)
        self._timeline: Timeline[Parameters] = Timeline()
        self._rules: Timeline[Rules] = Timeline()
        self._currency = currency
        self._seen: set[str] = set()
        self._arrived = asyncio.Condition()
        self._ends_seen = 0
        self._closing = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            following = await stack.enter_async_context(follower(self._broker, self._partition))
            while not await self._poll(following):
                pass
            # `__aexit__` does not run when this raises: then the stack closes the client here.
            self._closing = stack.pop_all()
        self._task = asyncio.create_task(self._follow(following))
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._closing.aclose()

    @property
    def timeline(self) -> Timeline[Parameters]:
        """The parameters published so far; another object when there are more.

        Raises the error that ended the reading of the topic, so that outdated ones are not used.
        """
        self._check()
        return self._timeline

    @property
    def rules(self) -> Timeline[Rules]:
        """The rules published so far; another object when there are more. Errors: as above."""
        self._check()
        return self._rules

    async def caught_up(self) -> None:
        """Wait until everything that was published before the call has arrived.

        The read that is under way may have begun before the call, so it takes the end of another.
        """
        async with self._arrived:
            wanted = self._ends_seen + 2
            await self._arrived.wait_for(lambda: self._ends_seen >= wanted or self._ended)

    def _check(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    @property
    def _ended(self) -> bool:
        return self._task is not None and self._task.done()

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until parameters, or rules by their key, have arrived; say whether they have."""
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: version in self._seen)
        except TimeoutError:
            return False
        return True

    async def _follow(self, following: Follower) -> None:
        try:
            while True:
                await self._poll(following)
        finally:
            async with self._arrived:
                self._arrived.notify_all()

    async def _poll(self, following: Follower) -> bool:
        """Read on; return whether everything published has been read."""
        read = await following.read(_POLL_MILLISECONDS)
        for record in read.records:
            if record.value is not None and is_parameters(record.key):
                self._read(record.offset, record.value)
            elif record.value is not None and is_rules(record.key):
                self._read_rules(record.offset, record.value)
        async with self._arrived:
            self._ends_seen += read.at_end
            self._arrived.notify_all()
        return read.at_end

    def _read(self, offset: int, value: bytes) -> None:
        where = f"{self._partition}@{offset}"
        try:
            parameters = Parameters.model_validate_json(value)
        except ValidationError as error:
            log.warning("parameters refused; the former ones stay", where=where, error=str(error))
            return
        if self._currency not in (None, parameters.currency):
            log.warning(
                "parameters refused; they are not in the shop's currency",
                where=where,
                currency=parameters.currency,
                expected=self._currency,
            )
            return
        self._timeline = self._timeline.with_(parameters)
        self._seen.add(parameters.version)
        since = parameters.holds_from
        log.info(
            "parameters in use",
            where=where,
            version=parameters.version,
            since="ever" if since is None else since.isoformat(),
        )

    def _read_rules(self, offset: int, value: bytes) -> None:
        where = f"{self._partition}@{offset}"
        try:
            rules = Rules.model_validate_json(value)
        except ValidationError as error:
            if (version := _version_of_rules(value)) is not None:
                first = error.errors(include_url=False)[0]
                raise RulesUnreadable(
                    f"{where}: rules {version} were published by a newer version of this program, "
                    f"or damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}. Run the "
                    "version that published them, or a later one"
                ) from error
            log.warning("rules refused; the former ones stay", where=where, error=str(error))
            return
        self._rules = self._rules.unless_taken(rules)
        if self._rules.by_version.get(rules.version) != rules:
            log.warning(
                "rules refused; others hold from the same time", where=where, version=rules.version
            )
            return
        self._seen.add(rules_key(rules.version).decode())
        since = rules.holds_from
        log.info(
            "rules in use",
            where=where,
            version=rules.version,
            since="ever" if since is None else since.isoformat(),
        )


class RulesUnreadable(ClvError):
    """The rules in force cannot be read: run the version that published them, or a later one.

    Going on with the former ones would undo what other workers do.
    """


def _version_of_rules(value: bytes) -> str | None:
    """Return the version of what looks like rules; None of anything else."""
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("dimensions"), list):
        return None
    version = found.get("version")
    return version if isinstance(version, str) else None


class ParametersPublished(ClvError):
    """Parameters of this version are published already, and say something else.

    held: those. Parameters are immutable, so that a replay gives what was published.
    """

    def __init__(self, held: Parameters) -> None:
        since = "ever" if held.holds_from is None else held.holds_from.isoformat()
        super().__init__(
            f"parameters {held.version} are published already, hold from {since}, and never "
            f"change: give others a new version, or run `clv models rollback {held.version}` to "
            "put those in force again"
        )
        self.held = held


async def publish_parameters(broker: Broker, topic: str, parameters: Parameters) -> None:
    """Publish parameters for every worker to use from when they hold; once more changes nothing.

    Raises
    ------
    ParametersPublished
        if there are parameters of this version with any other content.
    ValueError
        if the version has a slash, by which other records of the topic are told apart.
    """
    if "/" in parameters.version:
        raise ValueError(f"the version {parameters.version!r} has a slash; name it without one")
    registry = await read_registry(broker, topic, parameters.currency)
    held = registry.published.get(parameters.version)
    if held is None:
        await write_document(broker, topic, parameters.version.encode(), parameters)
    elif held != parameters:
        raise ParametersPublished(held)
