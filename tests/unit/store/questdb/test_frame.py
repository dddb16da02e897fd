"""Frames: what is refused before it is written, and why."""

import math

import msgspec
import pytest

from shared.errors import DecodeError
from shared.messages import BookSnapshot, OrderState
from shared.store.port import Row
from shared.store.questdb.frame import TIME_MAX_NS, TIME_MIN_NS, decoded, encoded, frame_of, pandas_of, table_name
from shared.store.tables import TABLE_BY_NAME
from shared.testing.samples import START_NS, heartbeat, order_event
from shared.testing.ticks import rows_of, trades

TRADES = TABLE_BY_NAME["trades"]


def refused(**changes: object) -> tuple[int, list[str]]:
    good, bad = trades(2)
    frame, rejected = frame_of(TRADES, rows_of([good, msgspec.structs.replace(bad, **changes)]))
    return frame.num_rows, [item.reason for item in rejected]


@pytest.mark.parametrize(
    "time_ns",
    [0, 1, -1, START_NS // 1_000, START_NS // 1_000_000, TIME_MIN_NS - 1, TIME_MAX_NS, 2**63 - 1],
    ids=["1970", "one", "before", "us", "ms", "2008", "2100", "2262"],
)
def test_absurd_times_are_refused_before_they_are_written(time_ns: int) -> None:
    kept, reasons = refused(ts_event_ns=time_ns)
    assert kept == 1
    assert reasons == [f"ts_event_ns {time_ns} lies outside the years 2009 to 2099: is it in nanoseconds?"]


def test_market_time_before_the_first_step_is_kept_but_no_time_beyond_the_century() -> None:
    rows = [
        Row(msgspec.structs.replace(heartbeat("risk", 1), sent_at_ns=at), "hb.risk", 1) for at in (0, TIME_MAX_NS, -1)
    ]
    frame, rejected = frame_of(TABLE_BY_NAME["heartbeats"], rows)
    assert frame.num_rows == 1
    assert len(rejected) == 2


@pytest.mark.parametrize("name", ["A'; DROP TABLE trades; --", "", "a b", "x" * 65, "a\nb", "a,b=c", '"', "é", "../x"])
@pytest.mark.parametrize("field", ["venue", "instrument"])
def test_a_name_that_is_none_is_refused(field: str, name: str) -> None:
    kept, reasons = refused(**{field: name})
    assert kept == 1
    assert len(reasons) == 1
    assert "is no name" in reasons[0]


@pytest.mark.parametrize("name", ["BTC-USDT", "mexc", "1INCH-USDT", "okx.swap", "BTC/USDT:USDT"])
def test_names_that_venues_use_pass(name: str) -> None:
    assert refused(venue=name, instrument=name) == (2, [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_would_become_null_is_refused(value: float) -> None:
    assert refused(price=value) == (1, ["price is no finite number"])
    assert refused(sequence=-(2**63)) == (1, ["sequence -9223372036854775808 means NULL to QuestDB"])


def test_a_number_beyond_64_bits_is_refused_and_the_rest_is_kept() -> None:
    kept, reasons = refused(sequence=2**63)
    assert kept == 1
    assert "64 bits" in reasons[0]


def test_several_bad_rows_are_each_named() -> None:
    good, old, odd, huge = trades(4)
    rows = rows_of(
        [
            msgspec.structs.replace(old, ts_event_ns=5),
            good,
            msgspec.structs.replace(odd, venue="a b"),
            msgspec.structs.replace(huge, sequence=2**70),
        ]
    )
    frame, rejected = frame_of(TRADES, rows)
    assert frame.column("trade_id").to_pylist() == [good.trade_id]
    assert {item.row.message.trade_id: item.reason.split()[0] for item in rejected} == {  # type: ignore[attr-defined]
        old.trade_id: "ts_event_ns",
        odd.trade_id: "venue",
        huge.trade_id: "sequence",
    }


def test_a_frame_survives_the_spool() -> None:
    frame, _ = frame_of(TRADES, rows_of(trades(100)))
    back = decoded(encoded(frame))
    assert back.equals(frame, check_metadata=True)
    assert table_name(back) == "trades"


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\0" * 100])
def test_bytes_that_are_no_frame_are_named_so(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decoded(data)


def test_a_frame_of_a_table_that_is_gone_is_named_so() -> None:
    frame, _ = frame_of(TRADES, rows_of(trades(1)))
    with pytest.raises(DecodeError):
        decoded(encoded(frame.replace_schema_metadata({b"table": b"gone"})))


def test_money_is_exact_text() -> None:
    event = order_event(1, OrderState.FILLED)
    frame, _ = frame_of(TABLE_BY_NAME["order_events"], [Row(event, "ord.event.x", START_NS, "ORDERS", 1, 1)])
    (row,) = frame.to_pylist()
    assert (row["fill_price"], row["quantity"]) == ("0.5012", "412.6")


def test_a_book_becomes_prices_and_sizes() -> None:
    pytest.importorskip("pandas")
    book = BookSnapshot("v", "A-USDT", ((10.0, 1.0), (9.0, 2.0)), ((11.0, 3.0),), START_NS, START_NS, 1)
    empty = msgspec.structs.replace(book, bids=(), asks=((12.0, 4.0), (13.0, 5.0)))
    frame, _ = frame_of(TABLE_BY_NAME["books"], [Row(one, "md.book", START_NS) for one in (book, empty)])
    made = pandas_of(frame)
    assert [side.tolist() for side in made["bids"]] == [[[10.0, 9.0], [1.0, 2.0]], [[], []]]  # type: ignore[index]
    assert [side.tolist() for side in made["asks"]] == [[[11.0], [3.0]], [[12.0, 13.0], [4.0, 5.0]]]  # type: ignore[index]


def test_a_book_with_a_level_that_is_no_number_is_refused() -> None:
    book = BookSnapshot("v", "A-USDT", ((10.0, math.nan),), ((11.0, 3.0),), START_NS, START_NS, 1)
    frame, rejected = frame_of(TABLE_BY_NAME["books"], [Row(book, "md.book", START_NS)])
    assert frame.num_rows == 0
    assert "bids" in rejected[0].reason
