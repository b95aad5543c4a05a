"""Rules: ordered by dimension; the first one that holds gives the customer's segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field, field_validator, model_validator

from models.errors import ClvError
from models.features import FEATURES, Feature, Measured, Silence
from models.segments.conditions import OPERATORS, Condition, Quantile, Strict
from models.segments.reachable import unreachable
from models.segments.tables import Tables, by_segment
from models.segments.watched import Watched, watched

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class RuleError(ClvError, ValueError):
    """What is wrong in a list of rules or of dimensions, and the index of the one that is."""

    def __init__(self, text: str, index: int) -> None:
        super().__init__(text)
        self.index = index


class Rule(Strict):
    """A segment and its conditions: all of `all` and, if there are any, one of `any`."""

    id: Name
    """Names the rule in changes; no other rule of the dimension has it."""
    segment: Annotated[str, Field(min_length=1, max_length=60)]
    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()
    stay_days: Annotated[int, Field(ge=0, le=3_650, strict=True)] = 0
    """Calendar days for which the rule holds for who has entered its segment."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions."""
        return (*self.all, *self.any)

    @property
    def leaves(self) -> bool:
        """Whether it has bounds to leave."""
        return any(each.leave is not None for each in self.conditions)


class Dimension(Strict):
    """An ordered list of rules; the last one holds for everybody.

    `{"use": NAME}` stands for the dimension of that name in `BUILT_IN`.
    """

    name: Name
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _built_in(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "use" not in given:
            return given
        use = given["use"]
        if not isinstance(use, str) or use not in BUILT_IN:
            raise ValueError(f"use is {use!r}; there are {', '.join(BUILT_IN)}")
        if len(given) > 1:
            raise ValueError("beside use there is nothing to say; write name and rules instead")
        return BUILT_IN[use].model_dump()

    @field_validator("rules")
    @classmethod
    def _well_ordered(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        seen: set[str] = set()
        last = len(rules) - 1
        for index, rule in enumerate(rules):
            if rule.id in seen:
                raise RuleError("two rules have this id; rename one", index)
            seen.add(rule.id)
            if index < last and not rule.conditions:
                raise RuleError(
                    "the rule has no conditions, so that those after it can never be reached; give "
                    "it some, or put it last",
                    index,
                )
        if rules[last].conditions:
            raise RuleError(
                "the last rule must have no conditions, so that every customer has a segment; add "
                "one without any after it",
                last,
            )
        if rules[last].stay_days:
            raise RuleError(
                "stay_days have no effect in the last rule, because rules before it may take a "
                "customer at any time; leave them out",
                last,
            )
        if (index_ := unreachable(rules)) is not None:
            raise RuleError(
                "the rule can never be reached: no customer meets its conditions, or each who does "
                "meets those of a rule before it; move it up, change its bounds, or leave it out",
                index_,
            )
        return rules

    @cached_property
    def evidence(self) -> tuple[tuple[str, ...], ...]:
        """For each rule, the features of it and of the rules before it, each once."""
        seen: dict[str, None] = {}
        evidence = []
        for rule in self.rules:
            seen.update(dict.fromkeys(each.feature for each in rule.conditions))
            evidence.append(tuple(seen))
        return tuple(evidence)

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each rule by its id."""
        return {rule.id: index for index, rule in enumerate(self.rules)}

    @cached_property
    def rules_of(self) -> dict[str, tuple[int, ...]]:
        """The indices of the rules that give each segment."""
        return by_segment(self.rules)

    @cached_property
    def reasons(self) -> dict[Any, Any]:
        """What `models.segments.reasons` has found out about the rules so far."""
        return {}

    @cached_property
    def encoded_reasons(self) -> dict[Any, Any]:
        """Reasons as they were published, by what they depend on; see `models.documents`."""
        return {}

    @cached_property
    def stays(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """The rules with a minimum stay of each segment: their indices, and the days."""
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for index, rule in enumerate(self.rules):
            if rule.stay_days:
                found[rule.segment] = (*found.get(rule.segment, ()), (index, rule.stay_days))
        return found

    @cached_property
    def entry_bytes(self) -> int:
        """The largest size in bytes of a stored change of this dimension with its evidence."""
        segment = max(len(rule.segment.encode()) for rule in self.rules) + 2
        return (
            len(self.name)
            + 2 * segment
            + max(len(rule.id) for rule in self.rules)
            + sum(len(each) + (43 if FEATURES[each].is_text else 11) for each in self.evidence[-1])
            + 10
        )


def check_together(dimensions: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    """Return dimensions that can be kept together. Errors: RuleError."""
    seen: set[str] = set()
    for index, each in enumerate(dimensions):
        if each.name in seen:
            raise RuleError("two dimensions have this name; rename one, or leave one out", index)
        seen.add(each.name)
        if index >= MOST_DIMENSIONS:
            raise RuleError(f"there are more than {MOST_DIMENSIONS}; leave some out", index)
    return dimensions


class Rules(Strict):
    """The rules of all dimensions, with a version; immutable once published."""

    version: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$")]
    holds_from: AwareDatetime | None = None
    """Scores as of this time and later use them; None: all scores, of any time."""
    dimensions: tuple[Dimension, ...]

    @field_validator("dimensions")
    @classmethod
    def _each_its_name(cls, dimensions: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
        return check_together(dimensions)

    @cached_property
    def by_name(self) -> dict[str, Dimension]:
        """The dimensions by name."""
        return {each.name: each for each in self.dimensions}

    @cached_property
    def asked(self) -> tuple[Feature, ...]:
        """The features that the rules use, each once."""
        names = {name: None for each in self.dimensions for name in each.evidence[-1]}
        return tuple(FEATURES[name] for name in names)

    @cached_property
    def read(self) -> tuple[Feature, ...]:
        """Those of them that are computed from each customer's state."""
        return tuple(feature for feature in self.asked if feature.read is not None)

    @cached_property
    def readers(self) -> tuple[Callable[[Measured], float | str], ...]:
        """The functions that compute them, in the same order."""
        return tuple(each.read for each in self.read if each.read is not None)

    @cached_property
    def quantiles(self) -> tuple[Quantile, ...]:
        """The quantiles that the rules compare with, each once."""
        return tuple(dict.fromkeys(each for one in self._conditions() for each in one.quantiles))

    @cached_property
    def read_daily(self) -> tuple[bool, ...]:
        """Which of those grow by one a day while nothing happens; () if none does."""
        daily = tuple(each.silence is Silence.DAILY for each in self.read)
        return daily if any(daily) else ()

    @cached_property
    def tables(self) -> Tables:
        """What evaluates them."""
        return Tables([each.rules for each in self.dimensions])

    @cached_property
    def watched(self) -> Watched:
        """The comparisons that silence may turn."""
        limits = [
            (each.feature, each.is_, bound)
            for each in self._conditions()
            for bound in (each.limit(leaving=False), each.limit(leaving=True))
            if not isinstance(bound, tuple)
        ]
        return watched(self.read, limits)

    def heeds_steps(self, read: Sequence[float | str]) -> bool:
        """Return whether a rule may look at features that move in steps.

        read: a customer's features, of `read`. It need not if a condition beside is not met, by a
        feature that stays.
        """
        for beside in self._beside_steps:
            for place, compare, bound in beside:
                if not compare(read[place], bound):
                    break
            else:
                return True
        return False

    @cached_property
    def _beside_steps(self) -> tuple[tuple[tuple[int, Callable[..., Any], Any], ...], ...]:
        """For each rule with a feature that moves in steps, what else must be met: place, bound."""
        names = {each.name: place for place, each in enumerate(self.read)}
        return tuple(
            tuple(
                # Who is in the segment already has the wider bound.
                (names[each.feature], OPERATORS[each.is_], each.limit(leaving=True))
                for each in rule.all
                if each.feature in names
                and FEATURES[each.feature].silence is Silence.STAYS
                and not each.quantiles
            )
            for dimension in self.dimensions
            for rule in dimension.rules
            if any(FEATURES[each.feature].silence is Silence.STEPS for each in rule.conditions)
        )

    @cached_property
    def stay_days(self) -> tuple[int, ...]:
        """The minimum stays, each once."""
        stays = {rule.stay_days for each in self.dimensions for rule in each.rules}
        return tuple(sorted(stays - {0}))

    @cached_property
    def entry_bytes(self) -> int:
        """The largest size in bytes of the stored changes of one evaluation."""
        return sum(dimension.entry_bytes for dimension in self.dimensions)

    def _conditions(self) -> Iterator[Condition]:
        for dimension in self.dimensions:
            for rule in dimension.rules:
                yield from rule.conditions


MOST_DIMENSIONS: Final = 100

BUILT_IN: Final[dict[str, Dimension]] = {}
"""Dimensions that a configuration can use by name."""


NO_RULES: Final = Rules(version="none", dimensions=())
"""Under these nobody is in any segment."""


def named_rules(dimensions: tuple[Dimension, ...], name: str = "rules") -> Rules:
    """Return rules whose version is made of a name and a hash of what they say."""
    unnamed = Rules(version="unnamed", dimensions=dimensions)
    digest = blake2b(unnamed.model_dump_json().encode(), digest_size=4).hexdigest()
    return unnamed.model_copy(update={"version": f"{name}-{digest}"})
