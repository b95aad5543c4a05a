"""How right the numbers are: what was expected at a split, held against what happened after it.

Everything here is a function of arrays: what was known at the split, the parameters fitted on it,
and the outcomes of the same customers. docs/evaluation.md says what each measure means.
"""

from models.evaluation.histories import Histories, Outcomes
from models.evaluation.predictions import Predictions, in_revenue, predict
from models.evaluation.prequential import Forecast, Prequential, forecast, summarise
from models.evaluation.split import Holdout, Known, Rival, SplitReport, evaluate_split

__all__ = [
    "Forecast",
    "Histories",
    "Holdout",
    "Known",
    "Outcomes",
    "Predictions",
    "Prequential",
    "Rival",
    "SplitReport",
    "evaluate_split",
    "forecast",
    "in_revenue",
    "predict",
    "summarise",
]
