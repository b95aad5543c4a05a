"""Which column of a file holds which field of an order."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from streams.files.shops import Shop

FIELDS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customerid", "customer"),
    "time": ("time", "placedat", "date", "orderdate", "invoicedate"),
    "amount": ("amount", "total", "price", "unitprice"),
    "quantity": ("quantity", "qty"),
    "order_id": ("orderid", "order", "invoice", "invoiceno"),
    "currency": ("currency",),
    "cost_of_goods": ("costofgoods",),
    "channel": ("channel",),
    "revision": ("revision",),
    "status": (),
    "tax": (),
    "refunded": (),
    "cancelled_at": (),
}
"""Our fields, and the headers taken for each, best first; those without are read if named.

Headers are compared in lower case and without spaces, hyphens and underscores: "Customer ID",
"CustomerID" and "customer_id" are one.
"""

PRICES = ("price", "unitprice")
"""Headers of an amount that is for one piece, if there is a quantity."""

REQUIRED = ("customer_id", "time", "amount")
REQUIRED_OF_SHOPS = ("order_id", *REQUIRED, "status")

STATUS = ("status", "orderstatus", "paymentstatus", "financialstatus")
"""Headers of columns that may say that a row does not count."""


class Layout(NamedTuple):
    """The headers of a file, in their meaning.

    fields: the header of each field that the file has. otherwise: the header of the customer, where
    that of customer_id is empty. captured: the header that is "false" for what is not paid yet.
    """

    fields: Mapping[str, str]
    otherwise: str | None = None
    captured: str | None = None


def resolve(headers: Iterable[str], columns: Mapping[str, str], shop: Shop | None = None) -> Layout:
    """Return where the fields are; `columns` overrides the usual names, or those of a shop."""
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header, header)
        found.setdefault(plain(header), header)

    def first(names: Iterable[str]) -> str | None:
        return next((found[name] for name in names if name in found), None)

    resolved: dict[str, str] = {}
    for field, usual in FIELDS.items():
        known = usual if shop is None else shop.columns.get(field, ())
        match = first((columns[field],) if field in columns else known)
        if match is not None:
            resolved[field] = match
    if "quantity" not in columns and plain(resolved.get("amount", "")) not in PRICES:
        # An amount or a total is already for all pieces.
        resolved.pop("quantity", None)
    if shop is None:
        return Layout(resolved)
    otherwise = None if "customer_id" in columns else first(shop.otherwise)
    if otherwise is not None:
        resolved.setdefault("customer_id", otherwise)
    return Layout(resolved, otherwise, first((shop.captured,)))


def missing(
    layout: Layout, headers: Iterable[str], columns: Mapping[str, str], shop: Shop | None = None
) -> str:
    """Say which columns the file lacks and what was found instead; "" when it has all it needs."""
    listed = ", ".join(repr(header) for header in headers) or "none"
    for field, header in columns.items():
        if field not in layout.fields:
            return f"there is no column {header!r}, named for {field}; columns found: {listed}"
    required = REQUIRED if shop is None else REQUIRED_OF_SHOPS
    lacking = [field for field in required if field not in layout.fields]
    if not lacking:
        return ""
    what = "" if shop is None else f"this is no export of {shop.title}: "
    return (
        f"{what}there is no column for {', '.join(lacking)}; columns found: {listed}; name the "
        f"columns, for instance {lacking[0]}=HEADER"
    )


def status_of(headers: Iterable[str]) -> str | None:
    """Return the header of a column that may say that a row does not count."""
    return next((header for header in headers if plain(header) in STATUS), None)


def check(columns: Mapping[str, str]) -> None:
    """Raise ValueError when `columns` names a field that we do not know."""
    for field in columns:
        if field not in FIELDS:
            raise ValueError(f"columns: {field!r} is not one of our fields: {', '.join(FIELDS)}")


def plain(header: str) -> str:
    """Return a header as headers are compared."""
    return header.strip().lower().replace(" ", "").replace("_", "").replace("-", "")
