"""Every message that the schema allows, for hypothesis; NaN, 1e308, quotes, SQL, NUL and huge decimals among them."""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from shared.messages import Instrument, Message, OrderIntent, OrderType
from shared.store.tables import INT64_MAX, INT64_MIN

NASTY = (
    "",
    "'; DROP TABLE trades; --",
    'SELECT * FROM "order_events"',
    "date=2026-01-01/../../x",
    "a\0b",
    "\n\t\\",
    "🪙" * 100,
    "x" * 70_000,
    "NULL",
)
texts = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
integers = st.integers(INT64_MIN, INT64_MAX)
times_ns = st.one_of(
    st.integers(0, INT64_MAX),
    # The two sides of a day's boundary, where a row must not fall between two days.
    st.integers(0, 40_000).flatmap(lambda day: st.sampled_from((-1, 0, 1)).map(lambda off: max(0, day * DAY_NS + off))),
)
decimals = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.sampled_from([Decimal(text) for text in ("NaN", "-0", "1E-30", "1E+400", "0.10", "-Infinity", "9" * 60)]),
)
positive = st.decimals(min_value=Decimal("1E-12"), max_value=Decimal("1E+12"), allow_nan=False, allow_infinity=False)
floats = st.one_of(st.floats(), st.sampled_from([1e308, -1e308, 5e-324, float("nan"), float("inf"), -0.0]))
DAY_NS = 86_400 * 1_000_000_000


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return every valid message of a type."""
    found: st.SearchStrategy[Message] = _struct(kind)
    return found


def _struct(kind: type[msgspec.Struct]) -> "st.SearchStrategy[Any]":
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    fields = {field.name: times_ns if field.name.endswith("_ns") else _any(field.type) for field in described.fields}
    if kind is Instrument:
        fields |= dict.fromkeys(("tick_size", "step_size", "quantity_min", "notional_min"), positive)
    if kind is OrderIntent:
        return st.fixed_dictionaries(fields | {"price_bound": st.none() | positive}).flatmap(_intent)
    return st.builds(kind, **fields)


def _intent(fields: dict[str, object]) -> "st.SearchStrategy[OrderIntent]":
    is_limit = fields["type"] is OrderType.LIMIT

    def build(amount: Decimal, by_quote: bool, limit: Decimal) -> OrderIntent:
        chosen = {
            "quantity": None if by_quote else amount,
            "quote_amount": amount if by_quote else None,
            "limit_price": limit if is_limit else None,
        }
        return OrderIntent(**(fields | chosen))  # type: ignore[arg-type] # the fields' strategies give the right types

    return st.builds(build, positive, st.booleans(), positive)


def _any(described: inspect.Type) -> "st.SearchStrategy[Any]":
    match described:
        case inspect.UnionType(types=types):
            return st.one_of(*map(_any, types))
        case inspect.StructType(cls=cls):
            return _struct(cls)
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.VarTupleType(item_type=item):
            return st.lists(_any(item), max_size=4).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(_any, items))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_any(key), _any(value), max_size=4)
    return _SIMPLE[type(described)]


_SIMPLE: "dict[type[inspect.Type], st.SearchStrategy[Any]]" = {
    inspect.StrType: texts,
    inspect.IntType: integers,
    inspect.FloatType: floats,
    inspect.BoolType: st.booleans(),
    inspect.BytesType: st.binary(max_size=50),
    inspect.DecimalType: decimals,
    inspect.NoneType: st.none(),
}
