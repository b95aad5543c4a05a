"""Outcomes of a topology, and of a replayed recording."""

from __future__ import annotations

from pathlib import Path

from streams.outcome.outcome import ROLES, Outcome
from streams.recording import Recording
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings
from streams.testing.service import Service
from streams.testing.settings import shop_settings


async def outcome_of(service: Service) -> Outcome:
    """The outcome of a topology, once it has settled."""
    names, outcome = service.settings.topics.model_dump(), Outcome()
    for role in ROLES[1:]:
        for record in await service.topic(names[role]):
            outcome.take(role, record.key, record.value, record.headers)
    return outcome


async def replayed(recording: str | Path, settings: Settings | None = None) -> Outcome:
    """The outcome of a recording, replayed in memory with these settings or `shop_settings`.

    Errors: RecordingUnusable, ReplayFailed, OSError.
    """
    outcome, source = Outcome(), FromFile(Recording(Path(recording)))
    async with in_memory(settings or shop_settings(), source, outcome) as replay:
        await replay.run()
    return outcome
