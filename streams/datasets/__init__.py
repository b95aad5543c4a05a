"""Published data sets as streams of events, and a simulation of what they lack."""

from collections.abc import Mapping

from streams.datasets.cdnow import CDNOW
from streams.datasets.dataset import Dataset
from streams.datasets.online_retail import ONLINE_RETAIL

DATASETS: Mapping[str, Dataset] = {each.name: each for each in (CDNOW, ONLINE_RETAIL)}
