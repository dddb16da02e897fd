"""Every message type has a table whose columns hold it exactly."""

from typing import Literal

import pytest

from shared.messages import InstrumentDefinition, Message, OrderEvent, Side, Trade, TradeBatch
from shared.messages.codec import message_types
from shared.store.columns import Kind, columns_of
from shared.store.tables import ENVELOPE, ENVELOPES, TABLES, day_of, table_of, unpacked
from shared.testing.samples import bar


def test_every_message_type_has_exactly_one_table() -> None:
    recorded = [table.message for table in TABLES]
    assert sorted(kind.__name__ for kind in (*recorded, *ENVELOPES)) == sorted(k.__name__ for k in message_types())


def test_names_are_unique_and_leave_room_for_the_views_own_columns() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    for table in TABLES:
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names), table.name
        assert not {"time", "date"} & set(names), table.name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_event_time_of_a_table_is_one_of_its_integer_columns(table) -> None:
    (column,) = [column for column in table.columns if column.name == table.event_time]
    assert column.type is Kind.INTEGER


def test_a_nested_struct_is_spread_over_columns_and_an_optional_one_has_its_prefix() -> None:
    names = [column.name for column in columns_of(OrderEvent)]
    assert [name for name in names if name.startswith("fill")] == [
        "filled_quantity",
        "filled_quote",
        "fill_id",
        "fill_price",
        "fill_quantity",
        "fill_fee",
        "fill_fee_asset",
        "fill_liquidity",
        "fill_ts_event_ns",
    ]
    assert [column.name for column in columns_of(InstrumentDefinition)][:3] == ["venue", "instrument", "base"]


def test_no_column_of_a_message_collides_with_the_envelope() -> None:
    envelope = {column.name for column in ENVELOPE}
    for table in TABLES:
        assert not envelope & {column.name for column in columns_of(table.message)}, table.name


def test_a_field_that_no_column_can_hold_exactly_is_refused() -> None:
    class Odd(Message, frozen=True):
        """Have a field that may be a number or a text."""

        either: int | str

    class Named(Message, frozen=True):
        """Have a field of one value."""

        one: Literal["x"]

    for kind in (Odd, Named):
        with pytest.raises(TypeError, match=kind.__name__):
            columns_of(kind)


def test_a_batch_of_trades_is_recorded_as_its_trades() -> None:
    trades = [Trade("mexc", "A-USDT", str(number), Side.BUY, 1.0, 1.0, 1, 1, number) for number in (1, 2)]
    batch = TradeBatch.of(trades)
    assert list(unpacked(batch)) == trades
    assert table_of(batch).name == "trades"
    one = bar(1, "TAO-USDT", 1.0)
    assert unpacked(one) == (one,)


@pytest.mark.parametrize(
    ("time_ns", "day"),
    [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (1_767_225_599_999_999_999, "2025-12-31"),
        (1_767_225_600_000_000_000, "2026-01-01"),
        (2**63 - 1, "2262-04-11"),
        (951_782_400_000_000_000, "2000-02-29"),
    ],
)
def test_a_day_begins_at_midnight_utc(time_ns: int, day: str) -> None:
    assert day_of(time_ns) == day
