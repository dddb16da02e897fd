"""Rows to Parquet bytes and Arrow rows to messages.

In: rows of one table. Out: one Parquet file in memory (zstd, page checksums); back: the messages.
Never: a row silently changed to fit; what does not fit an int64 is rejected by name.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from shared.messages import AnyMessage, Message
from shared.store.columns import Column, ColumnType, Kind, ListOf, MapOf, RecordOf, Value, columns_of, message_of
from shared.store.packed import batches_of, repeated, trade_columns
from shared.store.port import Rejected, Row
from shared.store.runs import Run, Runs
from shared.store.tables import ENVELOPE, INT64_MAX, INT64_MIN, Table

COMPRESSION_LEVEL = 3
_IDS = frozenset({"trade_id"})

_SIMPLE = {
    Kind.TEXT: pa.string(),
    Kind.DECIMAL: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.REAL: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.BYTES: pa.binary(),
}


def arrow_type(column: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column."""
    match column:
        case ListOf(item):
            return pa.list_(arrow_type(item))
        case MapOf(value):
            return pa.map_(pa.string(), arrow_type(value))
        case RecordOf(fields):
            return pa.struct([(name, arrow_type(of)) for name, of in fields])
        case Kind():
            return _SIMPLE[column]


def arrow_schema(table: Table, envelope: Sequence[Column] = ENVELOPE) -> pa.Schema:
    """Return the Arrow schema of a table, envelope last."""
    columns = (*columns_of(table.message), *envelope)
    return pa.schema([(column.name, arrow_type(column.type)) for column in columns])


def fingerprint(table: Table) -> str:
    """Return 8 hex digits that change whenever the table's columns do."""
    text = ";".join(f"{column.name}:{arrow_type(column.type)}" for column in table.columns)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def arrow_table(
    table: Table, rows: Sequence[Row], envelope: Sequence[Column] = ENVELOPE
) -> tuple[pa.Table, tuple[Rejected, ...]]:
    """Return the rows as columns, the message's and those of `envelope`, and the rows that no column can hold."""
    if not isinstance(rows, Runs):
        return _checked_table(table, rows, envelope)
    columns, rejected = rows.columns(lambda: _checked_table(table, rows, ENVELOPE))
    wanted = arrow_schema(table, envelope).names
    return columns if columns.column_names == wanted else columns.select(wanted), rejected


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """Return a Parquet file of the columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **parquet_options(table.schema))
    return sink.getvalue()


def parquet_options(schema: pa.Schema) -> dict[str, object]:
    """Return how a table of `schema` is written.

    By itself a writer tries a dictionary for every column. Of numbers and ids that never repeat it makes a trial of
    all of them for nothing: kept as differences they take half the room, and half the time.
    """
    options: dict[str, object] = {
        "compression": "zstd", "compression_level": COMPRESSION_LEVEL, "write_page_checksum": True,
    }  # fmt: skip
    if any(pa.types.is_nested(field.type) for field in schema):
        return options
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_int64(field.type)}
    encodings |= {field.name: "DELTA_BYTE_ARRAY" for field in schema if field.name in _IDS}
    words = [field.name for field in schema if pa.types.is_string(field.type) and field.name not in _IDS]
    return options | {"use_dictionary": words, "column_encoding": encodings}


def messages_of(table: Table, columns: pa.RecordBatch) -> Iterable[AnyMessage]:
    """Yield the messages of an Arrow batch in its order."""
    row: dict[str, Value]
    for row in columns.to_pylist():
        yield message_of(table.message, row)


def _checked_table(
    table: Table, rows: Sequence[Row], envelope: Sequence[Column]
) -> tuple[pa.Table, tuple[Rejected, ...]]:
    try:
        return _arrow_table(table, rows, envelope), ()
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
        rejected = tuple(Rejected(row, reason) for row in rows if (reason := _misfit(table, row)) is not None)
        if not rejected:
            raise
        refused = {id(item.row) for item in rejected}
        return _arrow_table(table, [row for row in rows if id(row) not in refused], envelope), rejected


def _arrow_table(table: Table, rows: Sequence[Row], envelope: Sequence[Column] = ENVELOPE) -> pa.Table:
    batches = batches_of(rows)
    if batches is not None:
        packed = trade_columns(batches)
        arrays = [packed[column.name] for column in columns_of(table.message)]
    else:
        messages = rows.messages if isinstance(rows, Runs) else [row.message for row in rows]
        arrays = [pa.array(_values(column, messages), arrow_type(column.type)) for column in columns_of(table.message)]
    if isinstance(rows, Runs):
        arrays += [_repeated(one, rows) for one in envelope]
    else:
        arrays += [pa.array(list(map(attrgetter(one.name), rows)), arrow_type(one.type)) for one in envelope]
    return pa.table(arrays, schema=arrow_schema(table, envelope))


def _repeated(column: Column, rows: Runs) -> pa.Array:
    kind = arrow_type(column.type)
    if column.name not in Run.__struct_fields__:
        return pa.nulls(len(rows), kind)
    return repeated([getattr(run, column.name) for run in rows.runs], [len(run.messages) for run in rows.runs], kind)


def _values(column: Column, messages: Sequence[Message]) -> list[Value]:
    read: Callable[[Message], Value] = attrgetter(column.path[-1])
    objects: Iterable[object] = messages
    if len(column.path) == 2:
        outer = attrgetter(column.path[0])
        objects = [outer(message) for message in messages]
    convert = _converter(column.type)
    if convert is None:
        if objects is messages:
            return list(map(read, messages))
        return [None if one is None else read(one) for one in objects]  # type: ignore[arg-type] # a nested Struct
    return [
        None if one is None or (value := read(one)) is None else convert(value)  # type: ignore[arg-type] # as above
        for one in objects
    ]


def _converter(column: ColumnType) -> Callable[[object], Value] | None:
    """Return what turns an attribute into what Arrow takes; None where Arrow takes it as it is."""
    match column:
        case Kind.DECIMAL:
            return str
        case ListOf(item):
            inner = _converter(item)
            return None if inner is None else lambda values: [inner(value) for value in values]  # type: ignore[attr-defined]
        case RecordOf(fields):
            parts = [(name, attrgetter(name), _converter(of)) for name, of in fields]
            return lambda one: {
                name: value if (value := read(one)) is None or inner is None else inner(value)
                for name, read, inner in parts
            }
        case MapOf():
            return lambda mapping: list(mapping.items())  # type: ignore[attr-defined]
    return None


def _misfit(table: Table, row: Row) -> str | None:
    for column in columns_of(table.message):
        (value,) = _values(column, [row.message])
        if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            return f"{column.name} does not fit 64 bits: {value}"
    try:
        _arrow_table(table, [row])
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError) as error:
        return str(error)
    return None
