"""Settings for tests: the same on every machine."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from models.economics import Economics
from streams.settings import Settings

TESTING_ERASURE_KEY = SecretStr("for tests only, known to everybody: no erasure key")
"""The same in every run, so that a replay gives the same bytes; it protects nobody."""


class _GivenSettings(Settings):
    """Settings that look at nothing but their arguments: no environment, no file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic passes it by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments."""
        return (init_settings,)


def shop_settings(**given: Any) -> Settings:
    """Settings for a test: the service's defaults, whatever the environment says, and euros.

    given: as for `Settings`; economics that are given take the place of the euros.
    """
    ours: dict[str, Any] = {
        "economics": Economics(currency="EUR"),
        "erasure_key": TESTING_ERASURE_KEY,
    }
    return _GivenSettings(**(ours | given))


def with_erasure_key(settings: Settings) -> Settings:
    """The settings with a key for what is kept in memory: the testing one if they have none."""
    if settings.erasure_key is not None:
        return settings
    return settings.model_copy(update={"erasure_key": TESTING_ERASURE_KEY})
