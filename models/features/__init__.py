"""The registry of features: what segment rules may use, with unit and meaning."""

from models.features.feature import (
    NEVER,
    ONCE,
    TEXT,
    TWICE,
    UNBOUGHT,
    Feature,
    Floats,
    Measured,
    Silence,
)
from models.features.registry import FEATURES, table_of_features

__all__ = [
    "FEATURES",
    "NEVER",
    "ONCE",
    "TEXT",
    "TWICE",
    "UNBOUGHT",
    "Feature",
    "Floats",
    "Measured",
    "Silence",
    "table_of_features",
]
