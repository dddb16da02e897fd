"""From rows to a frame: the columns of one table as QuestDB takes them, checked before anything is sent.

In: rows of one table. Out: an Arrow table with `ts` first, and the rows that it refuses with the reason; a frame to
and from bytes for the spool; a pandas frame for the client.
Never: a time with a wrong unit, a name that is no name, a number that QuestDB would silently turn into NULL.
"""

import base64
import json
import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import DecodeError
from shared.store.arrow import arrow_table
from shared.store.columns import Column, Kind, ListOf, MapOf
from shared.store.port import Rejected, Row
from shared.store.questdb.schema import BOOK_SIDES, TIME, is_symbol, stored_columns, stored_envelope
from shared.store.tables import INT64_MIN, TABLE_BY_NAME, Table

# Market data outside these years has a wrong unit: milliseconds or microseconds taken for nanoseconds, or the reverse.
# Other messages bear market time, which is 0 before the market's first step.
TIME_MIN_NS = 1_230_768_000_000_000_000  # 2009-01-01
TIME_MAX_NS = 4_102_444_800_000_000_000  # 2100-01-01

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
WORD_MAX = 1_000
_PRICES = ("trades", "bbo", "books", "bars")
_NAMED = ("venue", "instrument", "strategy")
_TABLE_KEY = b"table"
_IPC_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def frame_of(table: Table, rows: Sequence[Row]) -> tuple[pa.Table, tuple[Rejected, ...]]:
    """Return the rows as a frame, and the rows that are refused."""
    plain, misfits = arrow_table(table, rows, stored_envelope(table))
    refused: dict[int, str] = {}
    for name, check in _CHECKS:
        for column in stored_columns(table):
            if name(table, column):
                for place, reason in check(column.name, plain.column(column.name)):
                    refused.setdefault(place, reason)
    if not refused:
        return _shaped(table, plain), misfits
    gone = {id(item.row) for item in misfits}
    left = [row for row in rows if id(row) not in gone]
    rejected = tuple(Rejected(left[place], reason) for place, reason in sorted(refused.items()))
    mask = np.ones(plain.num_rows, dtype=bool)
    mask[list(refused)] = False
    return _shaped(table, plain.filter(pa.array(mask))), misfits + rejected


def encoded(frame: pa.Table) -> pa.Buffer:
    """Return a frame as bytes; `decoded` is the way back."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, frame.schema, options=_IPC_OPTIONS) as writer:
        writer.write_table(frame)
    return sink.getvalue()


def decoded(data: bytes | pa.Buffer) -> pa.Table:
    """Return a frame from bytes; raises DecodeError when they are none, or of a table that is gone."""
    try:
        frame = pa.ipc.open_stream(data).read_all()
        table_name(frame)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DecodeError(f"this is no frame of a table: {error}") from error
    return frame


def table_name(frame: pa.Table) -> str:
    """Return which table a frame belongs to; raises KeyError for a table that this build does not know."""
    return TABLE_BY_NAME[(frame.schema.metadata or {})[_TABLE_KEY].decode()].name


def pandas_of(frame: pa.Table) -> "object":
    """Return a frame as the client takes it: categories for symbols, arrays of (2, levels) for the sides of a book."""
    import pandas as pd  # noqa: PLC0415 - an extra, loaded only where QuestDB is used

    # What is left out is NULL, and a category without a word has no type that the client knows.
    present = [name for name in frame.column_names if frame.column(name).null_count < frame.num_rows]
    plain = frame.select([name for name in present if name not in BOOK_SIDES])

    def kind(of: pa.DataType) -> object:
        return None if pa.types.is_dictionary(of) or pa.types.is_timestamp(of) else pd.ArrowDtype(of)

    converted = plain.to_pandas(types_mapper=kind)
    for name in BOOK_SIDES.intersection(frame.column_names):
        converted[name] = pd.Series(_levels(frame.column(name)), dtype=object)
    return converted


def text_rows(frame: pa.Table) -> list[dict[str, object]]:
    """Return a frame's rows for people: the time as an integer, the rest as it is."""
    place = frame.schema.get_field_index(TIME)
    return frame.set_column(place, TIME, frame.column(TIME).cast(pa.int64())).to_pylist()  # type: ignore[no-any-return]


def _shaped(table: Table, plain: pa.Table) -> pa.Table:
    names, arrays = [TIME], [plain.column(table.event_time).cast(pa.timestamp("ns"))]
    for column in stored_columns(table):
        if column.name != table.event_time:
            names.append(column.name)
            arrays.append(_shape(column, plain.column(column.name)))
    return pa.table(arrays, names=names, metadata={_TABLE_KEY: table.name.encode()}).combine_chunks()


def _shape(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_symbol(column):
        return values.dictionary_encode()
    if column.name in BOOK_SIDES or (isinstance(column.type, Kind) and column.type is not Kind.BYTES):
        return values
    if column.type is Kind.BYTES:
        return pa.chunked_array([pa.array([base64.b64encode(value).decode() for value in values.to_pylist()])])
    return pa.chunked_array([pa.array([_json(column, value) for value in values.to_pylist()], pa.string())])


def _json(column: Column, value: object) -> str | None:
    if value is None:
        return None
    plain = dict(value) if isinstance(column.type, MapOf) else value  # type: ignore[call-overload] # pairs of a map
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _levels(sides: pa.ChunkedArray) -> list[np.ndarray]:
    """Return for each book an array of (2, levels): prices, sizes."""
    found = []
    for chunk in sides.chunks:
        levels = chunk.flatten()
        numbers = levels.flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum(pc.list_value_length(chunk).to_numpy(zero_copy_only=False)) * 2
        found += [np.ascontiguousarray(one.reshape(-1, 2).T) for one in np.split(numbers, ends[:-1])]
    return found


type _Found = Sequence[tuple[int, str]]


def _bad_times(low_ns: int, name: str, values: pa.ChunkedArray) -> _Found:
    bounds = pc.min_max(values)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or (low >= low_ns and high < TIME_MAX_NS):
        return ()
    years = f"{'2009' if low_ns else '1970'} to 2099"
    return [
        (place, f"{name} {value} lies outside the years {years}: is it in nanoseconds?")
        for place, value in enumerate(values.to_pylist())
        if not low_ns <= value < TIME_MAX_NS
    ]


def _bad_names(name: str, values: pa.ChunkedArray) -> _Found:
    bad = [value for value in values.unique().to_pylist() if value is not None and not NAME.fullmatch(value)]
    if not bad:
        return ()
    return [
        (place, f"{name} {value!r:.100} is no name: letters, digits and . _ : / - only, 64 at most")
        for place, value in enumerate(values.to_pylist())
        if value in bad
    ]


def _bad_words(name: str, values: pa.ChunkedArray) -> _Found:
    # Line protocol ends a word at a NUL.
    bad = {value for value in values.unique().to_pylist() if value and (len(value) > WORD_MAX or "\0" in value)}
    if not bad:
        return ()
    return [
        (place, f"{name} {value!r:.60} is no word: {WORD_MAX} characters at most, no NUL")
        for place, value in enumerate(values.to_pylist())
        if value in bad
    ]


def _bad_reals(name: str, values: pa.ChunkedArray) -> _Found:
    if pc.all(pc.is_finite(values), min_count=0).as_py():
        return ()
    finite = pc.is_finite(values).to_pylist()
    return [(place, f"{name} is no finite number") for place, is_fine in enumerate(finite) if is_fine is False]


def _bad_integers(name: str, values: pa.ChunkedArray) -> _Found:
    if pc.min(values).as_py() != INT64_MIN:
        return ()
    return [
        (place, f"{name} {INT64_MIN} means NULL to QuestDB")
        for place, value in enumerate(values.to_pylist())
        if value == INT64_MIN
    ]


def _bad_levels(name: str, values: pa.ChunkedArray) -> _Found:
    numbers = pc.list_flatten(pc.list_flatten(values))
    if pc.all(pc.is_finite(numbers), min_count=0).as_py():
        return ()
    return [
        (place, f"{name} holds what is no finite number")
        for place, side in enumerate(values.to_pylist())
        if not np.isfinite(np.array(side, dtype=float)).all()
    ]


_Check = tuple[Callable[[Table, Column], bool], Callable[[str, pa.ChunkedArray], _Found]]
_CHECKS: tuple[_Check, ...] = (
    (lambda table, column: column.name == table.event_time and table.name in _PRICES, partial(_bad_times, TIME_MIN_NS)),
    (lambda table, column: column.name == table.event_time and table.name not in _PRICES, partial(_bad_times, 0)),
    (lambda _, column: column.name in _NAMED, _bad_names),
    (lambda _, column: is_symbol(column), _bad_words),
    (lambda _, column: column.type is Kind.REAL, _bad_reals),
    (lambda _, column: column.type is Kind.INTEGER, _bad_integers),
    (lambda _, column: column.name in BOOK_SIDES and isinstance(column.type, ListOf), _bad_levels),
)
