"""Rows of CSV, JSON Lines and Parquet files, one at a time."""

import csv
import gzip
import importlib
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.files.errors import InputFileError

SAMPLE_BYTES = 65_536
"""What `count_rows` reads: some thousand rows, enough for a progress bar."""

LARGEST_GZIP = 2**32 // 20
"""A gzip file knows its content's size modulo 4 GiB; text of orders shrinks at most 20 times."""

BATCH_ROWS = 10_000
"""Rows of a Parquet file in memory at a time: some megabytes."""


class Row(NamedTuple):
    """One row: its values, or a `problem` and the line as it is in `raw`.

    A row of JSONL has both values and `raw`.
    """

    line: int
    values: Mapping[str, object]
    raw: bytes | None = None
    problem: str = ""


def file_format(path: Path) -> str:
    """Return "csv", "jsonl" or "parquet", by the file's name; raises InputFileError."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    if plain.endswith(".csv"):
        return "csv"
    if plain.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if name.endswith(".parquet"):
        return "parquet"
    raise InputFileError(
        path, None, "not a format we read: .csv, .jsonl, .ndjson (each also .gz) or .parquet"
    )


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows; raises InputFileError when the file cannot be read on."""
    read = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[file_format(path)]
    try:
        yield from read(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputFileError(path, None, f"damaged gzip file: {error}") from error


def count_rows(path: str | Path) -> int | None:
    """Return the number of rows, None if finding out is not cheap.

    Exact for Parquet and small files, else an estimate by the length of the first rows.
    """
    path = Path(path)
    kind = file_format(path)
    if kind == "parquet":
        return int(_pyarrow_parquet(path).ParquetFile(path).metadata.num_rows)
    size = path.stat().st_size
    if _is_gzip(path):
        if size > LARGEST_GZIP:
            return None
        with path.open("rb") as compressed:
            compressed.seek(-4, 2)
            size = int.from_bytes(compressed.read(4), "little")
    with _open(path) as file:
        sample = file.read(SAMPLE_BYTES)
    lines = sample.count(b"\n")
    if len(sample) < SAMPLE_BYTES:
        lines += not sample.endswith(b"\n") and len(sample) > 0
    else:
        lines = round(lines * size / len(sample))
    return max(0, lines - 1) if kind == "csv" else lines


def _csv(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        lines = _decoded(path, file)
        header_line = next(lines, "")
        delimiter = max(",;\t", key=header_line.count)
        header = next(csv.reader([header_line], delimiter=delimiter), [])
        if not header:
            raise InputFileError(path, None, "the file is empty; its first line must name columns")
        cells = csv.reader(lines, delimiter=delimiter)
        while True:
            try:
                row = next(cells, None)
            except csv.Error as error:
                raise InputFileError(path, cells.line_num + 1, f"not CSV: {error}") from error
            if row is None:
                return
            # The header was read apart, so line numbers are one short.
            line = cells.line_num + 1
            if len(row) == len(header):
                yield Row(line, dict(zip(header, row, strict=True)))
            elif row:
                problem = f"{len(row)} cells, but the header has {len(header)}; quote the cells"
                yield Row(line, {}, delimiter.join(row).encode(), problem)


def _decoded(path: Path, file: BufferedIOBase) -> Iterator[str]:
    encoding = "utf-8-sig"
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            raise InputFileError(path, number, f"not UTF-8 ({error}); convert the file") from error
        encoding = "utf-8"


def _jsonl(path: Path) -> Iterator[Row]:
    # Decimal keeps amounts as they are written.
    decode = msgspec.json.Decoder(float_hook=Decimal).decode
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            raw = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not raw:
                continue
            try:
                values = decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Row(number, {}, raw, f"not JSON: {error}")
                continue
            if isinstance(values, dict):
                yield Row(number, values, raw)
            else:
                yield Row(number, {}, raw, "not a JSON object; write one {...} on each line")


def _parquet(path: Path) -> Iterator[Row]:
    parquet = _pyarrow_parquet(path)
    number = 0
    try:
        file = parquet.ParquetFile(path, coerce_int96_timestamp_unit="us")
        batches = file.iter_batches(batch_size=BATCH_ROWS)
        for batch in batches:
            for values in _microseconds(batch).to_pylist():
                number += 1
                yield Row(number, values)
    except (ValueError, OSError) as error:
        raise InputFileError(path, None, f"not a readable Parquet file: {error}") from error


def _microseconds(batch: Any) -> Any:
    """Return the batch with its timestamps in the unit of datetime."""
    arrow = importlib.import_module("pyarrow")
    types = arrow.types
    fields = [
        field.with_type(arrow.timestamp("us", field.type.tz))
        if types.is_timestamp(field.type)
        else field
        for field in batch.schema
    ]
    return batch.cast(arrow.schema(fields), safe=False)


def _pyarrow_parquet(path: Path) -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputFileError(
            path, None, "Parquet needs pyarrow: pip install 'clv-streams[parquet]'"
        ) from error


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
