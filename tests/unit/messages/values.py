"""Generate any message from its type alone, so that a new field is tested the day it appears."""

import types
import typing
from decimal import Decimal
from enum import Enum

import msgspec
from hypothesis import strategies as st

from shared.messages import (
    AnyMessage,
    Instrument,
    Message,
    OrderApproved,
    OrderIntent,
    OrderType,
    Side,
    Trade,
    TradeBatch,
)

INTEGERS = st.integers(min_value=-(2**63), max_value=2**64 - 1)
# Python's Decimal prints some of these with an exponent: the wire must carry them all exactly.
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
POSITIVE = st.decimals(min_value=Decimal("1e-18"), max_value=Decimal("1e18"), allow_nan=False, allow_infinity=False)
# Surrogates cannot be encoded as UTF-8, so no str on the wire has them.
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS: dict[object, st.SearchStrategy[object]] = {
    str: TEXTS,
    int: INTEGERS,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    bytes: st.binary(max_size=40),
    Decimal: DECIMALS,
    types.NoneType: st.none(),
}


def values(kind: object) -> st.SearchStrategy[object]:
    """Return a strategy for any type that messages are made of; fails for a type that it does not know."""
    if kind in SCALARS:
        return SCALARS[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(argument) for argument in arguments))
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    raise TypeError(f"no values for {kind!r}: teach tests/unit/messages/values.py about it")


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[object]:
    """Return a strategy for a Struct, within its own rules."""
    hints = typing.get_type_hints(kind)
    fields = {name: values(hints[name]) for name in kind.__struct_fields__}
    if kind is Instrument:
        fields |= dict.fromkeys(("tick_size", "step_size", "quantity_min", "notional_min"), POSITIVE)
    if kind is OrderIntent:
        return intents(fields)
    if kind is TradeBatch:
        return batches()
    if kind is OrderApproved:
        fields["intent"] = structs(OrderIntent)
    return st.builds(kind, **fields)


def batches() -> st.SearchStrategy[object]:
    """Return a strategy for trades of one instrument as a batch."""
    number, real = st.integers(-(2**63), 2**63 - 1), st.floats()
    one = st.tuples(TEXTS, st.sampled_from(Side), real, real, number, number, number)
    trades = st.lists(one, min_size=1, max_size=3)
    return st.builds(
        lambda *named, rows: TradeBatch.of([Trade(*named, *row) for row in rows]), TEXTS, TEXTS, rows=trades
    )


@st.composite
def intents(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[object]]) -> OrderIntent:
    """Draw an intent: one amount, a limit price for limit orders only."""
    drawn = {name: draw(strategy) for name, strategy in fields.items()}
    sized = draw(st.sampled_from(["quantity", "quote_amount"]))
    drawn |= {"quantity": None, "quote_amount": None, sized: draw(POSITIVE)}
    drawn["limit_price"] = draw(POSITIVE) if drawn["type"] is OrderType.LIMIT else None
    drawn["price_bound"] = draw(st.none() | POSITIVE)
    return OrderIntent(**drawn)  # type: ignore[arg-type]


def message_kinds() -> tuple[type[Message], ...]:
    """Return every message type."""
    return typing.get_args(AnyMessage)


def messages() -> st.SearchStrategy[Message]:
    """Return a strategy for any message."""
    return st.sampled_from(message_kinds()).flatmap(structs)  # type: ignore[arg-type, return-value]
