"""Which column of a file holds which field of an order."""

from collections.abc import Iterable, Mapping

FIELDS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customerid", "customer"),
    "time": ("time", "placedat", "date", "orderdate", "invoicedate"),
    "amount": ("amount", "total", "price"),
    "order_id": ("orderid", "order", "invoice", "invoiceno"),
    "currency": ("currency",),
    "cost_of_goods": ("costofgoods",),
    "channel": ("channel",),
    "revision": ("revision",),
}
"""Our fields, and the headers taken for each, best first.

Headers are compared in lower case and without spaces, hyphens and underscores: "Customer ID",
"CustomerID" and "customer_id" are one.
"""

REQUIRED = ("customer_id", "time", "amount")


def resolve(headers: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the header of each field that the file has; `columns` overrides the usual names."""
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header, header)
        found.setdefault(_plain(header), header)
    resolved: dict[str, str] = {}
    for field, usual in FIELDS.items():
        names = (columns[field],) if field in columns else usual
        match = next((found[name] for name in names if name in found), None)
        if match is not None:
            resolved[field] = match
    return resolved


def missing(resolved: Mapping[str, str], headers: Iterable[str], columns: Mapping[str, str]) -> str:
    """Say which columns the file lacks and what was found instead; "" when it has all it needs."""
    listed = ", ".join(repr(header) for header in headers) or "none"
    for field, header in columns.items():
        if field not in resolved:
            return f"there is no column {header!r}, named for {field}; columns found: {listed}"
    lacking = [field for field in REQUIRED if field not in resolved]
    if not lacking:
        return ""
    return (
        f"there is no column for {', '.join(lacking)}; columns found: {listed}; name the columns, "
        f"for instance {lacking[0]}=HEADER"
    )


def check(columns: Mapping[str, str]) -> None:
    """Raise ValueError when `columns` names a field that we do not know."""
    for field in columns:
        if field not in FIELDS:
            raise ValueError(f"columns: {field!r} is not one of our fields: {', '.join(FIELDS)}")


def _plain(header: str) -> str:
    return header.strip().lower().replace(" ", "").replace("_", "").replace("-", "")
