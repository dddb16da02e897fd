"""A batch of trades is its trades, however it is cut and wherever it has been."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DecodeError
from shared.messages import Side, Trade, TradeBatch, decode, encode

INT64 = st.integers(-(2**63), 2**63 - 1)
rows = st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.sampled_from(Side))
trades = st.builds(
    lambda row, *numbers: Trade("mexc", "A-USDT", *row, *numbers),
    rows, st.floats(allow_nan=False), st.floats(allow_nan=False), INT64, INT64, INT64,
)  # fmt: skip


def trade(number: int, instrument: str = "A-USDT") -> Trade:
    return Trade("mexc", instrument, f"t{number}", Side.BUY, 1.5, 2.0, number, number, number)


@given(st.lists(trades, min_size=1, max_size=6))
def test_a_batch_comes_back_from_the_wire_as_the_same_trades(given_trades: list[Trade]) -> None:
    batch = decode(encode(TradeBatch.of(given_trades)))
    assert isinstance(batch, TradeBatch)
    assert list(batch) == list(batch.trades) == given_trades
    assert len(batch) == len(given_trades)
    assert list(batch.reals("price")) == [one.price for one in given_trades]
    assert list(batch.integers("sequence")) == [one.sequence for one in given_trades]


@given(st.lists(trades, min_size=1, max_size=6), st.integers(-7, 7) | st.none(), st.integers(-7, 7) | st.none())
def test_a_cut_batch_has_the_trades_of_the_cut(given_trades: list[Trade], start: int | None, stop: int | None) -> None:
    assert list(TradeBatch.of(given_trades)[start:stop]) == given_trades[start:stop]
    assert TradeBatch.of(given_trades)[0] == given_trades[0]


def test_what_is_no_number_stays_no_number() -> None:
    (one,) = TradeBatch.of([msgspec.structs.replace(trade(1), price=math.nan)])
    assert math.isnan(one.price)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ([], "one at least"),
        ([trade(1), trade(2, "B-USDT")], "of one instrument"),
        ([trade(2**63)], "64 bits"),
        ([trade(-(2**63) - 1)], "64 bits"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(odd: list[Trade], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TradeBatch.of(odd)


@pytest.mark.parametrize("name", ["side", "price", "quantity", "ts_event_ns", "ts_recv_ns", "sequence"])
@pytest.mark.parametrize("cut", [0, -1])
def test_columns_of_several_lengths_are_no_message(name: str, cut: int) -> None:
    batch = TradeBatch.of([trade(1), trade(2)])
    fields = msgspec.structs.asdict(batch)
    fields[name] = fields[name][:cut]
    forged = msgspec.msgpack.encode(["TradeBatch", *fields.values()])
    with pytest.raises(DecodeError, match=name):
        decode(forged)


def test_a_side_that_is_none_is_no_message() -> None:
    fields = msgspec.structs.asdict(TradeBatch.of([trade(1)])) | {"side": b"\x02"}
    with pytest.raises(DecodeError, match="side"):
        decode(msgspec.msgpack.encode(["TradeBatch", *fields.values()]))


def test_a_batch_is_cut_into_neighbours_only() -> None:
    with pytest.raises(ValueError, match="neighbours"):
        TradeBatch.of([trade(1), trade(2)])[::2]
