"""How a message's fields become a table's columns, derived from the Struct itself.

In: a message type. Out: columns in the order of its fields, and the way back from a row to the message.
Never: a lossy column. Decimals are their exact text, times int64 nanoseconds, lists and maps stay lists and maps.

Names: a field keeps its name. A nested Struct (`OrderApproved.intent`) is spread over columns of its own fields' names;
a name that the outer message uses too gets the field's name in front (`intent_price_bound`). An optional nested Struct
(`OrderEvent.fill`) has the prefix on every column: `fill_price`, all of them NULL when there is none.
"""

import functools
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec import inspect

from shared.errors import InputError
from shared.messages import AnyMessage, Message

type Value = bool | int | float | str | bytes | list[Value] | tuple[Value, ...] | dict[str, Value] | None


class Kind(StrEnum):
    """Name what a column holds; DECIMAL is exact decimal text."""

    TEXT = "text"
    DECIMAL = "decimal"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    BYTES = "bytes"


class ListOf(msgspec.Struct, frozen=True):
    """Hold a list of `item`."""

    item: "ColumnType"


class MapOf(msgspec.Struct, frozen=True):
    """Hold a map from text to `value`."""

    value: "ColumnType"


class RecordOf(msgspec.Struct, frozen=True):
    """Hold a record of named fields: a Struct within a list."""

    fields: tuple[tuple[str, "ColumnType"], ...]


ColumnType = Kind | ListOf | MapOf | RecordOf


class Column(msgspec.Struct, frozen=True):
    """Describe one column; `path` leads from the message to the attribute."""

    name: str
    type: ColumnType
    path: tuple[str, ...]


class _Field(msgspec.Struct, frozen=True):
    columns: tuple[Column, ...]
    nested: inspect.StructType | None


# Where the derived name would hide what the column is.
_RENAMED = {
    ("InstrumentDefinition", "instrument", "symbol"): "instrument",
    ("DeadLetter", "subject"): "dead_subject",
}


@functools.cache
def columns_of(kind: type[Message]) -> tuple[Column, ...]:
    """Return the columns of a message type; raises TypeError for a field that no column can hold exactly."""
    return tuple(column for field in _fields_of(kind) for column in field.columns)


def message_of(kind: type[Message], row: Mapping[str, Value]) -> AnyMessage:
    """Return the message that a row came from; raises InputError when the row is no valid message."""
    items: list[object] = [kind.__name__]
    for field in _fields_of(kind):
        values = [_restored(column.type, row[column.name]) for column in field.columns]
        if field.nested is None:
            items.append(values[0])
        else:
            # The first field of every nested Struct is its id or name and is never None.
            tag = [field.nested.cls.__name__] if issubclass(field.nested.cls, Message) else []
            items.append(None if values[0] is None else [*tag, *values])
    try:
        message = msgspec.convert(items, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"a row of the store is no valid {kind.__name__}: {error}") from error
    return message  # type: ignore[return-value] # AnyMessage is the union of message_types(), which kind is one of


@functools.cache
def _fields_of(kind: type[Message]) -> tuple[_Field, ...]:
    described = inspect.type_info(kind)
    if not isinstance(described, inspect.StructType):
        raise TypeError(f"{kind} is no Struct")
    outer = {field.name for field in described.fields}
    return tuple(_field(kind, field.name, field.type, outer) for field in described.fields)


def _field(kind: type[Message], name: str, described: inspect.Type, outer: set[str]) -> _Field:
    inner, optional = _without_none(described)
    if not isinstance(inner, inspect.StructType):
        column = _RENAMED.get((kind.__name__, name), name)
        return _Field((Column(column, _column_type(kind, inner), (name,)),), None)
    columns = []
    for field in inner.fields:
        own, _ = _without_none(field.type)
        if isinstance(own, inspect.StructType):
            raise TypeError(f"{kind.__name__}.{name}.{field.name} is nested too deep for columns")
        column = _RENAMED.get((kind.__name__, name, field.name)) or _nested_name(name, field.name, optional, outer)
        columns.append(Column(column, _column_type(kind, own), (name, field.name)))
    return _Field(tuple(columns), inner)


def _nested_name(outer_name: str, name: str, optional: bool, outer: set[str]) -> str:
    if name.startswith(f"{outer_name}_") or (not optional and name not in outer):
        return name
    return f"{outer_name}_{name}"


def _without_none(described: inspect.Type) -> tuple[inspect.Type, bool]:
    if isinstance(described, inspect.UnionType):
        kept = [item for item in described.types if not isinstance(item, inspect.NoneType)]
        if len(kept) == 1:
            return kept[0], True
    return described, False


_KINDS: dict[type[inspect.Type], Kind] = {
    inspect.StrType: Kind.TEXT,
    inspect.EnumType: Kind.TEXT,
    inspect.DecimalType: Kind.DECIMAL,
    inspect.IntType: Kind.INTEGER,
    inspect.FloatType: Kind.REAL,
    inspect.BoolType: Kind.BOOLEAN,
    inspect.BytesType: Kind.BYTES,
}


def _column_type(kind: type[Message], described: inspect.Type) -> ColumnType:
    if simple := _KINDS.get(type(described)):
        return simple
    if isinstance(described, inspect.VarTupleType):
        return ListOf(_column_type(kind, _without_none(described.item_type)[0]))
    if isinstance(described, inspect.TupleType) and len(set(map(type, described.item_types))) == 1:
        return ListOf(_column_type(kind, described.item_types[0]))
    if isinstance(described, inspect.DictType) and isinstance(described.key_type, inspect.StrType):
        return MapOf(_column_type(kind, described.value_type))
    if isinstance(described, inspect.StructType):
        return RecordOf(
            tuple((field.name, _column_type(kind, _without_none(field.type)[0])) for field in described.fields)
        )
    raise TypeError(f"{kind.__name__}: no column can hold {described}; extend shared/store/columns.py")


def _restored(column: ColumnType, value: Value) -> Value:
    # Structs within lists are arrays for msgspec, as on the wire.
    match column:
        case ListOf(item) if isinstance(value, list):
            return [_restored(item, element) for element in value]
        case RecordOf(fields) if isinstance(value, dict):
            return [_restored(of, value[name]) for name, of in fields]
        case MapOf() if isinstance(value, list):
            return dict(value)  # type: ignore[arg-type] # Arrow hands a map over as a list of pairs
    return value
