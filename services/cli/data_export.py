"""A table's rows into a file, which appears whole or not at all."""

import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import InputError

type Cell = object


def export_rows(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: Path, kind: str, on_rows: Callable[[int], None]
) -> int:
    """Write `batches` as `csv`, `parquet` or `json` (an object a line) and return the number of rows.

    Raises InputError when the file cannot be written.
    """
    write = {"csv": _csv, "parquet": _parquet, "json": _json_lines}[kind]
    counted = _Counted(batches, on_rows)
    try:
        with _replaced(out) as temporary:
            write(schema, counted, temporary)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    return counted.rows


def jsonable(value: Cell) -> Cell:
    """Return a value as JSON has it: what is no number there (NaN, infinities) as text, bytes as hexadecimal."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


class _Counted:
    def __init__(self, batches: Iterable[pa.RecordBatch], on_rows: Callable[[int], None]) -> None:
        self._batches, self._on_rows = batches, on_rows
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            yield batch
            self.rows += batch.num_rows
            self._on_rows(batch.num_rows)


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(schema.names)
        for batch in batches:
            writer.writerows([_csv_cell(value) for value in row.values()] for row in _rows(schema, batch))


def _json_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> None:
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for batch in batches:
            for row in _rows(schema, batch):
                file.write(encoder.encode(jsonable(row)) + b"\n")


def _parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _rows(schema: pa.Schema, batch: pa.RecordBatch) -> Iterator[dict[str, Cell]]:
    # A timestamp keeps its nanoseconds as text; Python's own would cut them off. A map is a list of pairs in Arrow.
    columns = [
        batch.column(place).cast(pa.string()) if pa.types.is_timestamp(field.type) else batch.column(place)
        for place, field in enumerate(schema)
    ]
    maps = [field.name for field in schema if pa.types.is_map(field.type)]
    for row in pa.RecordBatch.from_arrays(columns, schema.names).to_pylist():
        yield row | {name: dict(row[name]) for name in maps if row[name] is not None}


def _csv_cell(value: Cell) -> Cell:
    if isinstance(value, list | dict):
        return msgspec.json.encode(jsonable(value)).decode()
    return value.hex() if isinstance(value, bytes) else value
