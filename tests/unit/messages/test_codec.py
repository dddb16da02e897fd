"""Every message survives the wire exactly, and nothing else does."""

import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared.messages
from shared.errors import DecodeError
from shared.messages import Instrument, Message, OrderIntent, OrderType, Progress, Side, TimeInForce
from shared.messages.codec import decode, encode, message_types, schema, schema_hash
from tests.unit.messages.values import message_kinds, messages, structs


@pytest.mark.parametrize("kind", message_kinds(), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40)
def test_a_message_survives_the_wire_exactly(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(structs(kind))
    assert isinstance(message, Message)
    decoded = decode(encode(message))
    assert decoded == message
    assert type(decoded) is kind
    assert encode(decoded) == encode(message), "also what == does not see: -0.0, 1.50 and 1.5, the order of a map"


def test_every_message_that_the_package_exports_can_travel() -> None:
    exported = {getattr(shared.messages, name) for name in shared.messages.__all__}
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message}
    assert kinds == set(message_types())
    assert message_types() == message_kinds()


def test_messages_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Progress(service="a", venue="b", close_time_ns=1).close_time_ns = 2  # type: ignore[misc]


@given(payload=st.binary(max_size=200))
def test_garbage_is_a_decode_error_and_nothing_else(payload: bytes) -> None:
    try:
        message = decode(payload)
    except DecodeError:
        return
    assert isinstance(message, Message)


@given(message=messages(), data=st.data())
@settings(max_examples=200)
def test_a_truncated_message_is_a_decode_error(message: Message, data: st.DataObject) -> None:
    payload = encode(message)
    cut = data.draw(st.integers(min_value=0, max_value=len(payload) - 1))
    with pytest.raises(DecodeError):
        decode(payload[:cut])


@given(message=messages(), extra=st.binary(min_size=1, max_size=20))
def test_bytes_after_a_message_are_a_decode_error(message: Message, extra: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(encode(message) + extra)


@given(message=messages(), data=st.data())
@settings(max_examples=300)
def test_a_flipped_byte_is_a_decode_error_or_another_valid_message(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    position = data.draw(st.integers(min_value=0, max_value=len(payload) - 1))
    payload[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    try:
        decoded = decode(bytes(payload))
    except DecodeError:
        return
    assert isinstance(decoded, Message)


@pytest.mark.parametrize(
    "payload",
    [
        msgspec.msgpack.encode(["Unknown", 1, 2]),
        msgspec.msgpack.encode(["Balance", "USDT", "1", "2"]),
        msgspec.msgpack.encode(["Message"]),
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode({"message": "Progress", "service": "a", "venue": "b", "close_time_ns": 1}),
        msgspec.msgpack.encode(["Progress", "a", "b", "1"]),
        msgspec.msgpack.encode(["Progress", "a", "b", 1.5]),
        msgspec.msgpack.encode(["Progress", "a", "b", True]),
        msgspec.msgpack.encode(["Progress", "a", "b"]),
        msgspec.msgpack.encode(["Progress", "a", None, 1]),
        msgspec.msgpack.encode(["progress", "a", "b", 1]),
        msgspec.msgpack.encode([["Progress"], "a", "b", 1]),
        msgspec.json.encode(["Progress", "a", "b", 1]),
        b"\x91" * 5_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_a_frame_of_another_schema_is_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(payload)


INTENT = OrderIntent(
    intent_id="i",
    strategy="s",
    venue="v",
    instrument="A-USDT",
    side=Side.BUY,
    type=OrderType.MARKET,
    quantity=Decimal(1),
    quote_amount=None,
    limit_price=None,
    price_bound=None,
    time_in_force=TimeInForce.IOC,
    decided_at_ns=1,
    expires_at_ns=2,
    reason="r",
    correlation_id="c",
)


@pytest.mark.parametrize("text", ["NaN", "-NaN", "sNaN", "Infinity", "-Infinity", "0", "-1", "", "1,5", "one"])
@pytest.mark.parametrize("field", ["quantity", "price_bound"])
def test_an_intent_with_an_impossible_amount_is_a_decode_error(text: str, field: str) -> None:
    wire = msgspec.msgpack.decode(encode(INTENT))
    wire[1 + INTENT.__struct_fields__.index(field)] = text
    with pytest.raises(DecodeError):
        decode(msgspec.msgpack.encode(wire))


@pytest.mark.parametrize(("quantity", "quote_amount"), [(None, None), (Decimal(1), Decimal(1))])
def test_an_intent_has_exactly_one_amount(quantity: Decimal | None, quote_amount: Decimal | None) -> None:
    wire = msgspec.msgpack.decode(encode(INTENT))
    names = INTENT.__struct_fields__
    wire[1 + names.index("quantity")] = None if quantity is None else str(quantity)
    wire[1 + names.index("quote_amount")] = None if quote_amount is None else str(quote_amount)
    with pytest.raises(DecodeError, match="exactly one"):
        decode(msgspec.msgpack.encode(wire))


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "Infinity"])
def test_an_instrument_without_a_grid_is_impossible(value: str) -> None:
    with pytest.raises(ValueError, match="tick_size"):
        Instrument("A-USDT", "A", "USDT", Decimal(value), Decimal(1), Decimal(0), Decimal(0))


def test_the_schema_hash_is_the_same_in_every_process() -> None:
    import subprocess
    import sys

    script = "from shared.messages import schema_hash; print(schema_hash())"
    told = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {schema_hash()}
    assert len(schema_hash()) == 12


def test_the_schema_names_every_message() -> None:
    assert {kind.__name__ for kind in message_types()} <= set(schema())


Shape = list[tuple[str, object]]

BEFORE: Shape = [("first", int), ("price", float), ("quantity", float)]
CHANGES: dict[str, Shape] = {
    "renamed": [("first", int), ("price", float), ("amount", float)],
    "retyped": [("first", int), ("price", float), ("quantity", str)],
    "same types, other order": [("first", int), ("quantity", float), ("price", float)],
    "extended": [*BEFORE, ("third", float)],
    "optional": [("first", int), ("price", float), ("quantity", float | None)],
    "nested": [("first", int), ("price", float), ("quantity", Instrument)],
}


def shape_hash(fields: Shape, monkeypatch: pytest.MonkeyPatch, tag: str = "Probe") -> str:
    kind = msgspec.defstruct("Probe", fields, bases=(Message,), frozen=True, tag=tag)  # type: ignore[arg-type]
    monkeypatch.setattr("shared.messages.codec.message_types", lambda: (kind,))
    schema.cache_clear()
    schema_hash.cache_clear()
    try:
        return schema_hash()
    finally:
        schema.cache_clear()
        schema_hash.cache_clear()


@pytest.mark.parametrize("change", CHANGES)
def test_the_schema_hash_changes_with_any_shape(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shape_hash(BEFORE, monkeypatch)
    assert shape_hash(BEFORE, monkeypatch) == before
    assert shape_hash(CHANGES[change], monkeypatch) != before


def test_the_schema_hash_changes_with_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shape_hash(BEFORE, monkeypatch, tag="Other") != shape_hash(BEFORE, monkeypatch)


def test_the_schema_hash_sees_into_nested_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(names: tuple[str, str]) -> Shape:
        inner = msgspec.defstruct("Inner", [(name, float) for name in names], frozen=True, array_like=True)
        return [("inner", tuple[inner, ...])]

    assert shape_hash(nested(("price", "size")), monkeypatch) != shape_hash(nested(("size", "price")), monkeypatch)


def test_a_nan_float_in_market_data_survives_as_nan_for_the_consumer_to_refuse() -> None:
    bar = shared.messages.Bbo("v", "A-USDT", math.nan, 1.0, 2.0, 1.0, 1, 1, 1)
    decoded = decode(encode(bar))
    assert isinstance(decoded, shared.messages.Bbo)
    assert math.isnan(decoded.bid_price)
