"""docs/files.md says which fields and statuses a file may have, and which exports we read."""

from __future__ import annotations

import re
from pathlib import Path

from streams.files.columns import FIELDS, REQUIRED, plain
from streams.files.shops import SHOPS
from streams.files.statuses import STATUSES, Standing, plain_status

DOCUMENT = Path(__file__).parents[3] / "docs" / "files.md"
ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|$", re.MULTILINE)


def rows_of(title: str) -> list[tuple[str, str, str]]:
    """The rows of a section's table whose first cell is code, and their three cells."""
    section = DOCUMENT.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [(name, second.strip(), third.strip()) for name, second, third in ROW.findall(section)]


def test_every_field_is_documented_with_its_headers() -> None:
    rows = rows_of("Fields")
    assert [field for field, _, _ in rows] == list(FIELDS)
    for field, headers, about in rows:
        named = tuple(plain(header) for header in headers.split(",") if header)
        assert named == FIELDS[field], field
        assert about.startswith("required") == (field in REQUIRED), field


def test_every_status_is_documented_with_its_meaning() -> None:
    rows = rows_of("Statuses")
    assert [meaning for meaning, _, _ in rows] == [standing.value for standing in Standing]
    for meaning, _, known in rows:
        named = {plain_status(status) for status in known.split(", ")}
        assert named == {name for name, standing in STATUSES.items() if standing.value == meaning}


def test_every_shop_has_a_column() -> None:
    section = DOCUMENT.read_text().partition("## Exports of shops\n")[2]
    header = re.findall(r"^\| \|(.*)\|$", section, re.MULTILINE)[0]
    titles = [shop.title.partition(",")[0] for shop in SHOPS.values()]
    assert sorted(name.strip() for name in header.split("|")) == sorted(titles)
