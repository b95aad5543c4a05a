"""Answers to surveys: `survey.answered`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from models.aggregate.registers import Register
from models.events.fields import Id, Time
from models.events.kinds import Effect, Entries, EventType, lag_of, register
from models.events.scales import Scored

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.economics import Economics
    from models.events.envelope import Envelope

SurveyKind = Literal["nps", "csat", "ces"]


class SurveyAnswered(Scored):
    """A customer answered a survey: net promoter (nps), satisfaction (csat) or effort (ces)."""

    time_field: ClassVar[str] = "answered_at"

    survey_id: Id
    answered_at: Time
    kind: SurveyKind


class Survey(Register, array_like=True, frozen=True, order=True, gc=False):
    """The latest answer of a kind, from 0 to 1 on its scale."""

    time: int
    lag: int
    score: float


class Surveys(Entries):
    """The latest answer of each kind of survey."""

    field = "surveys"

    def in_order(self, entries: dict[Any, Any]) -> dict[Any, Any]:
        """The answers in order of their kind."""
        return dict(sorted(entries.items()))


SURVEYS: Final = Surveys()


def _fold(state: Aggregate, event: Envelope, time: int, _config: Economics) -> Effect:
    data: SurveyAnswered = event.data
    answer = Survey(time, lag_of(event, time), data.share)
    known = state.surveys.get(data.kind)
    if known is not None and known >= answer:
        return Effect.DUPLICATE
    state.surveys[data.kind] = answer
    if known is None:
        state.surveys = SURVEYS.in_order(state.surveys)
    return Effect.APPLIED


register(EventType("survey.answered", SurveyAnswered, "support", fold=_fold, ids=("survey_id",)))
