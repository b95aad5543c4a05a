"""Held-out evaluation of a file or a data set: running it, other libraries beside it, its page."""

from streams.evaluation.page import page
from streams.evaluation.run import Evaluation, NoForecast, evaluate
from streams.evaluation.told import Events, States, Told

__all__ = ["Evaluation", "Events", "NoForecast", "States", "Told", "evaluate", "page"]
