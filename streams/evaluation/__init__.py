"""Held-out evaluation of a file or a data set: running it, other libraries beside it, its page."""

from streams.evaluation.page import page
from streams.evaluation.run import Evaluation, NoForecast, evaluate

__all__ = ["Evaluation", "NoForecast", "evaluate", "page"]
