"""The registry of features: what segment rules may use, with unit and meaning."""

from models.features.feature import (
    DAYS,
    MONEY,
    NEVER,
    ONCE,
    SHARE,
    TEXT,
    TWICE,
    UNBOUGHT,
    Columns,
    Feature,
    Floats,
    Measured,
    Silence,
)
from models.features.registry import FEATURES, table_of_features

__all__ = [
    "DAYS",
    "FEATURES",
    "MONEY",
    "NEVER",
    "ONCE",
    "SHARE",
    "TEXT",
    "TWICE",
    "UNBOUGHT",
    "Columns",
    "Feature",
    "Floats",
    "Measured",
    "Silence",
    "table_of_features",
]
