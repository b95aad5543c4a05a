"""Write the generated parts of docs/segments.md: the rules in words, and what came of them.

    python -m tools.segments            # the rules only
    python -m tools.segments --measure  # also the tables, on all data sets; some minutes

Each part stands between two comments, `<!-- begin NAME -->` and `<!-- end -->`. The measured parts
say which version of the rules they are of; a test compares it with that of the program.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from models.economics import Economics
from models.evaluation.segments import Course, Look, Members
from models.segments import DEFAULT_RULES, Dimension, Rules, named_rules
from models.segments.presets import PRESETS
from models.segments.words import table_of_rules
from streams.datasets import DATASETS
from streams.datasets.dataset import Dataset
from streams.evaluation.segments import SegmentsReport, evaluate_segments

DOCUMENT = Path(__file__).parents[1] / "docs" / "segments.md"

ALL_DIMENSIONS = (*DEFAULT_RULES.dimensions, *PRESETS.values())
ALL_RULES = named_rules(ALL_DIMENSIONS, "documented")

QUARTERS = {
    "cdnow": ("1997-03-31", "1997-06-30", "1997-09-30", "1997-12-31"),
    "online-retail": ("2011-03-01", "2011-05-01", "2011-07-01", "2011-09-01"),
}
"""Days for the tables of presets."""

_PART = re.compile(r"(<!-- begin ([a-z-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def rules_in_words() -> dict[str, str]:
    """Return the table of rules of each dimension, by the name of its part."""
    return {f"rules-{each.name}": table_of_rules(each) for each in ALL_DIMENSIONS}


def measured_version() -> str:
    """Return the part that says what the tables are of."""
    return f"Measured with the rules `{ALL_RULES.version}`.\n"


def parts_of(text: str) -> dict[str, str]:
    """Return the generated parts of a document by name."""
    parts = {}
    for match in _PART.finditer(text):
        begin, name, end = match.groups()
        parts[name] = match.group()[len(begin) : -len(end)]
    return parts


def with_parts(text: str, parts: dict[str, str]) -> str:
    """Return the document with these parts in place of its own."""
    return _PART.sub(
        lambda match: match[1] + parts.get(match[2], parts_of(match[0])[match[2]]) + match[3], text
    )


def measured() -> dict[str, str]:
    """Return all measured parts."""
    parts, changes = {"version": measured_version()}, []
    for name, dataset in DATASETS.items():
        report = _evaluated(dataset, ALL_RULES)
        firm = _evaluated(dataset, _without_hysteresis())
        for course in report.courses:
            table = _by_group if course.dimension in PRESETS else _by_month
            parts[f"{course.dimension}-{name}"] = table(course, report.until, name)
            changes.append((name, course, firm.of(course.dimension)))
    parts["changes"] = _changes(changes)
    return parts


def _evaluated(dataset: Dataset, rules: Rules) -> SegmentsReport:
    days = dataset.first.date().toordinal(), dataset.last.date().toordinal()
    return evaluate_segments(dataset.events(), Economics(currency=dataset.currency), rules, days)


def _without_hysteresis() -> Rules:
    dimensions = []
    for dimension in ALL_DIMENSIONS:
        content = dimension.model_dump()
        for rule in content["rules"]:
            for condition in (*rule["all"], *rule["any"]):
                condition.pop("leave", None)
            rule["stay_days"] = 0
        dimensions.append(Dimension.model_validate(content))
    return named_rules(tuple(dimensions), "without-leave")


def _by_month(course: Course, until: int, _name: str) -> str:
    segments = [each.segment for each in course.looks[-1].members]
    segments.sort(key="lost".__eq__)
    used = [name for name in segments if any(look.of(name).customers for look in course.looks)]
    rows = []
    for look in course.looks:
        changes = sum(each.entered for each in look.members)
        cells = (_cell(look.of(name)) for name in used)
        rows.append((_date(look.day), _followed(look.day, until), *cells, f"{changes:,}"))
    return _table(("as of", "followed", *used, "changes"), rows)


def _by_group(course: Course, _until: int, name: str) -> str:
    looks = list(_at(course, QUARTERS[name]))
    rows = [
        (each.segment, *(_cell(look.of(each.segment)) for look in looks))
        for each in course.looks[-1].members
        if any(look.of(each.segment).customers for look in looks)
    ]
    return _table(("group", *(_date(look.day) for look in looks)), rows)


def _at(course: Course, days: Sequence[str]) -> Iterator[Look]:
    for text in days:
        day = date.fromisoformat(text).toordinal()
        yield min(course.looks, key=lambda look: abs(look.day - day))


def _changes(measures: Sequence[tuple[str, Course, Course]]) -> str:
    rows = [
        (
            course.dimension, name, f"{course.changes:,.0f}", f"{course.back_and_forth:,.0f}",
            f"{firm.back_and_forth:,.0f}",
        )
        for name, course, firm in sorted(measures, key=lambda each: _place(each[1].dimension))
    ]  # fmt: skip
    head = ("dimension", "data set", "changes", "back and forth", "back and forth without `leave`")
    return _table(head, rows)


def _place(dimension: str) -> int:
    return [each.name for each in ALL_DIMENSIONS].index(dimension)


def _cell(members: Members) -> str:
    if not members.customers:
        return "–"
    shares = " · ".join("" if each.share is None else f"{each.share:.0%}" for each in members.again)
    return f"{members.customers:,} · {shares}".rstrip(" ·").replace("%", " %")


def _date(day: int) -> str:
    return date.fromordinal(day).isoformat()


def _followed(day: int, until: int) -> str:
    return f"{min(until - day, 365)} days"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Rewrite the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure too; takes minutes")
    parts = rules_in_words() | (measured() if parser.parse_args().measure else {})
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_parts(text, parts), encoding="utf-8")


if __name__ == "__main__":
    main()
