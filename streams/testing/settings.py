"""Settings for tests: the same on every machine."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from models.economics import Economics
from streams.settings import Settings
from streams.simulation.settings import TESTING_ERASURE_KEY


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
    """Settings for a test: the service's defaults and euros, whatever the environment says.

    given: as for `Settings`; economics replace the euros.
    """
    ours: dict[str, Any] = {
        "economics": Economics(currency="EUR"),
        "erasure_key": TESTING_ERASURE_KEY,
        # Time passes when the test says so.
        "sweep_interval": 0,
    }
    return _GivenSettings(**(ours | given))
