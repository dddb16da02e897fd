"""Two accounts of one market's trades: what is lost is found, whole and once, however either account joins trades."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.tape import Listed, Tape
from shared.messages import Side, Trade
from tests.unit.exchange.mexc.frames_of import MARKET, TOKEN, Sink, wrapper_of

MS = 1_000_000
T0 = 1_760_000_000_000
Row = tuple[int, float, float, Side]
END = (T0 + 1_000) * MS
ROW = st.tuples(
    st.integers(1, 20), st.sampled_from((1.5, 1.6)), st.sampled_from((0.1, 0.2, 0.25, 3.0)), st.sampled_from(Side)
)


def listed(at: int, price: float = 1.5, quantity: float = 2.0, side: Side = Side.BUY) -> Listed:
    return Listed(T0 + at, price, quantity, side)


def trade(one: Listed, number: int = 0) -> Trade:
    return Trade("mexc", TOKEN, f"w{number}", one.side, one.price, one.quantity, one.time_ms * MS, 0, number)


def tape_of(*rows: Listed) -> Tape:
    tape = Tape()
    tape.begin(T0 * MS)
    for number, one in enumerate(rows):
        tape.add([trade(one, number)])
    return tape


def joined(rows: list[Row]) -> list[Row]:
    """Join neighbours of one millisecond, price and side, as MEXC's aggregates do."""
    found: list[Row] = []
    for row in rows:
        if found and (found[-1][0], found[-1][1], found[-1][3]) == (row[0], row[1], row[3]):
            found[-1] = (row[0], row[1], round(found[-1][2] + row[2], 9), row[3])
        else:
            found.append(row)
    return found


def test_equal_accounts_lack_nothing() -> None:
    rows = [listed(1), listed(1), listed(2, side=Side.SELL)]
    assert tape_of(*rows).lacking(rows, T0 * MS, END) == []


def test_what_never_came_is_found_and_so_is_the_second_of_two_equal_ones() -> None:
    rows = [listed(1), listed(1), listed(2, 1.6)]
    assert tape_of(rows[0]).lacking(rows, T0 * MS, END) == [(1, 2.0), (2, 2.0)]


def test_of_joined_trades_only_the_rest_is_lacking() -> None:
    assert tape_of(listed(1, quantity=0.5)).lacking([listed(1, quantity=2.0)], T0 * MS, END) == [(0, 1.5)]
    assert (
        tape_of(listed(1, quantity=2.0)).lacking([listed(1, quantity=0.5), listed(1, quantity=1.5)], T0 * MS, END) == []
    )


def test_a_list_that_lacks_what_was_streamed_proves_nothing() -> None:
    with pytest.raises(ValueError, match="lacks 1 of the trades"):
        tape_of(listed(1), listed(2)).lacking([listed(1), listed(3)], T0 * MS, END)


def test_what_was_traded_before_anybody_listened_is_not_lost() -> None:
    tape = Tape()
    assert tape.lacking([listed(1)], T0 * MS, END) == []
    tape.begin((T0 + 5) * MS)
    tape.begin((T0 + 500) * MS)
    assert tape.lacking([listed(1), listed(7)], T0 * MS, END) == [(1, 2.0)]


def test_more_trades_than_are_remembered_cannot_be_compared() -> None:
    tape = Tape(kept=3)
    tape.begin(T0 * MS)
    for number in range(1, 8):
        tape.add([trade(listed(number))])
    with pytest.raises(ValueError, match="remembered"):
        tape.lacking([], (T0 + 1) * MS, END)
    rows = [listed(number) for number in range(5, 9)]
    assert tape.lacking(rows, (T0 + 5) * MS, END) == [(3, 2.0)]


@given(rows=st.lists(ROW, max_size=25), lost=st.sets(st.integers(0, 24)), joins=st.booleans(), late=st.randoms())
@settings(deadline=None)
def test_every_trade_is_handed_on_once_whatever_is_lost_joined_or_late(rows, lost, joins, late) -> None:  # type: ignore[no-untyped-def]
    rows = sorted(rows, key=lambda row: row[0])
    sink = Sink()
    feed = MarketFeed(TOKEN, MARKET, sink, levels=5, has_book=False, want_snapshot=lambda _: None)
    feed.on_stream(True, "", T0 * MS)

    def stream(places: list[int], sent: int) -> None:
        for place in places:
            at, price, quantity, side = rows[place]
            wrapper = wrapper_of(T0 + sent + place)
            kind = 1 if side is Side.BUY else 2
            wrapper.publicAggreDeals.deals.add(price=str(price), quantity=str(quantity), tradeType=kind, time=T0 + at)
            feed.on_deals(wrapper.publicAggreDeals, wrapper.SerializeToString(), T0 + sent + place, 0)

    stream([place for place in range(len(rows)) if place not in lost], 100)
    theirs = [listed(*row) for row in (joined(rows) if joins else rows)]
    answer = feed.recover(theirs, T0 * MS, END, 0)
    assert answer.problem == ""
    assert [(one.ts_event_ns // MS, one.price, one.quantity) for one in answer.trades] == [
        (one.time_ms, one.price, one.quantity) for one in theirs
    ]
    assert feed.recover(theirs, T0 * MS, END, 0).lost == ()
    # Those that were only slow come after all, in any order, and change nothing.
    slow = [place for place in lost if place < len(rows)]
    late.shuffle(slow)
    stream(slow, 200)
    sums: dict[tuple[int, float, Side], float] = {}
    for one in (*sink.trades, *answer.lost):
        key = one.ts_event_ns // MS - T0, one.price, one.side
        sums[key] = round(sums.get(key, 0.0) + one.quantity, 9)
    true: dict[tuple[int, float, Side], float] = {}
    for at, price, quantity, side in rows:
        true[at, price, side] = round(true.get((at, price, side), 0.0) + quantity, 9)
    assert sums == true
    numbers = sorted(one.sequence for one in (*sink.trades, *answer.lost))
    assert numbers == list(range(len(numbers)))


def test_a_frame_that_is_late_by_far_does_not_cost_a_new_trade_of_the_same_kind() -> None:
    sink = Sink()
    feed = MarketFeed(TOKEN, MARKET, sink, levels=5, has_book=False, want_snapshot=lambda _: None)
    feed.on_stream(True, "", T0 * MS)
    (lost,) = feed.recover([listed(9, 1.5, 2.0)], T0 * MS, END, 0).lost
    assert (lost.price, lost.quantity, lost.ts_event_ns) == (1.5, 2.0, (T0 + 9) * MS)
    for sent, expected in ((10, 0), (11, 1)):
        wrapper = wrapper_of(T0 + sent)
        wrapper.publicAggreDeals.deals.add(price="1.50", quantity="2", tradeType=1, time=T0 + 9)
        feed.on_deals(wrapper.publicAggreDeals, wrapper.SerializeToString(), T0 + sent, 0)
        assert len(sink.trades) == expected
