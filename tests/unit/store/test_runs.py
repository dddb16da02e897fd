"""Runs of ticks are the same rows, in columns and in frames, as a row object for each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.messages import Bbo, Message, Side, Trade, TradeBatch
from shared.store.arrow import arrow_table
from shared.store.questdb.frame import frame_of
from shared.store.runs import Run, Runs
from shared.store.tables import TABLE_BY_NAME, table_of
from shared.testing.messages import messages

TICKS = ("trades", "bbo", "books")
NOW_NS = 1_780_000_000_000_000_000


def trade(number: int, *, venue: str = "sandbox", ts_event_ns: int = NOW_NS) -> Trade:
    return Trade(venue, "TAO-USDT", f"t{number}", Side.SELL, 1.5, 2.0, ts_event_ns, NOW_NS, number)


def same(runs: list[Run]) -> None:
    table = table_of(next(iter(runs[0].messages)))
    ticks, rows = Runs(runs), list(Runs(runs))
    for make in (arrow_table, frame_of):
        (found, refused), (expected, expected_refused) = make(table, ticks), make(table, rows)
        assert found.schema.equals(expected.schema, check_metadata=True)
        # What is no number equals nothing, so the texts are compared.
        assert repr(found.to_pylist()) == repr(expected.to_pylist())
        assert repr(refused) == repr(expected_refused)
        assert found.num_rows + len(refused) == len(rows)


@pytest.mark.parametrize("name", TICKS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_runs_have_the_columns_of_their_rows(name: str, data: st.DataObject) -> None:
    kind = TABLE_BY_NAME[name].message
    lists = st.lists(messages(kind), min_size=1, max_size=3)
    runs = data.draw(st.lists(st.builds(Run, lists, st.text(max_size=5), st.integers(0, 9)), min_size=1, max_size=4))
    same(runs)


packable = st.builds(
    Trade, st.sampled_from(["mexc", "no name!"]), st.sampled_from(["A-USDT", "'; DROP"]), st.text(max_size=5),
    st.sampled_from(Side), st.floats(), st.floats(), *[st.integers(0, NOW_NS) | st.just(NOW_NS)] * 2,
    st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip


def batch_of(trades: list[Trade]) -> TradeBatch:
    first = trades[0]
    return TradeBatch.of([replace(one, venue=first.venue, instrument=first.instrument) for one in trades])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(packable, min_size=1, max_size=4).map(batch_of), min_size=1, max_size=4), st.booleans())
def test_batches_have_the_columns_of_their_trades(batches: list[TradeBatch], one_came_alone: bool) -> None:
    runs = [Run(batch, f"s{place}", place) for place, batch in enumerate(batches)]
    same(runs + ([Run((trade(1),), "s", 1)] if one_came_alone else []))


@pytest.mark.parametrize(
    "odd",
    [trade(2**64), trade(2, venue="no name!"), trade(3, ts_event_ns=NOW_NS // 1_000), trade(4, venue="\ud800")],
)
def test_a_tick_that_no_column_holds_is_refused_by_name_in_both_stores(odd: Trade) -> None:
    same([Run((trade(7), odd), "s", 1), Run((trade(8),), "u", 2)])
    same([Run((odd, trade(2**70), odd), "s", 1)])


def test_columns_are_made_once_for_all_that_want_them() -> None:
    table, ticks = TABLE_BY_NAME["trades"], Runs([Run((trade(1), trade(2)), "s", 1)])
    first, _ = arrow_table(table, ticks)
    again, _ = arrow_table(table, ticks)
    assert again is first


def test_rows_of_runs_can_be_counted_picked_and_sliced() -> None:
    found: list[Message] = [Bbo("v", "i", 1.0, 1.0, 2.0, 1.0, NOW_NS, NOW_NS, number) for number in range(5)]
    ticks = Runs([Run(found[:2], "s", 1), Run(found[2:], "t", 2)])
    assert len(ticks) == 5
    assert [row.message for row in ticks] == found
    assert (ticks[2].message, ticks[2].subject, ticks[2].recorded_at_ns) == (found[2], "t", 2)
    assert ticks[1:3] == [ticks[1], ticks[2]]
    assert ticks[0] is next(iter(ticks))
