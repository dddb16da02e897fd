"""Steps out of live trades: what closes when, and what is not whole."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.market_data.core.live_steps import StepBuilder
from services.market_data.core.venue_candles import bars_of, candle_of, differing, interval_for
from shared.messages import Bar

S = 1_000_000_000
ONE, TWO = "A-USDT", "B-USDT"


def builder(first: int = 10, grace: int = 1, seen_from: int = 0) -> StepBuilder:
    return StepBuilder((ONE, TWO), 10 * S, first_close_ns=first * S, grace_ns=grace * S, seen_from_ns=seen_from * S)


def trade(steps: StepBuilder, name: str, at: float, price: float = 2.0, number: int = 0) -> None:
    steps.on_trade(name, f"{name}-{at}-{number}", int(at * S), price, 1.0)


def candle(at: int, length: int, volume: float = 1.0, close: float = 2.0) -> Bar:
    return Bar("mexc", ONE, "1m", at * S, (at + length) * S, 2.0, 2.0, 1.0, close, volume, 2.0, 0, 1)


def test_a_step_waits_for_a_trade_after_its_end_in_every_market_or_for_the_grace() -> None:
    steps = builder()
    trade(steps, ONE, 3)
    trade(steps, TWO, 4)
    assert not steps.is_due(9 * S)
    assert not steps.is_due(10 * S)
    trade(steps, ONE, 10)
    assert not steps.is_due(10 * S + S // 2)
    assert steps.is_due(11 * S)
    trade(steps, TWO, 10.2)
    assert steps.is_due(10 * S)
    draft = steps.close()
    assert (draft.open_time_ns, draft.close_time_ns) == (0, 10 * S)
    assert {name: bar.parts for name, bar in draft.bars.items()} == {ONE: 1, TWO: 1}
    assert steps.next_close_ns == 20 * S


def test_a_market_without_a_trade_has_no_bar_and_no_invented_price() -> None:
    steps = builder()
    trade(steps, ONE, 3)
    draft = steps.close()
    assert set(draft.bars) == {ONE}
    assert draft.gaps == {}
    assert set(steps.close().bars) == set()


def test_trades_of_the_next_step_do_not_wait_for_the_one_before_to_close() -> None:
    steps = builder()
    for at, price in ((3, 2.0), (9.9, 3.0), (10.0, 5.0), (19.9, 4.0), (20, 9.0)):
        trade(steps, ONE, at, price)
    first, second = steps.close(), steps.close()
    assert (first.bars[ONE].open, first.bars[ONE].close) == (2.0, 3.0)
    assert (second.bars[ONE].open, second.bars[ONE].close) == (5.0, 4.0)


def test_a_late_trade_changes_no_bar_and_is_counted() -> None:
    steps = builder()
    trade(steps, ONE, 3)
    steps.close()
    trade(steps, ONE, 9)
    assert steps.late_trades == {ONE: 1}
    assert steps.close().bars == {}


def test_a_bar_that_began_before_anybody_listened_is_not_whole() -> None:
    steps = builder(seen_from=4)
    trade(steps, ONE, 5)
    assert set(steps.close().gaps) == {ONE, TWO}
    trade(steps, ONE, 12)
    assert steps.close().gaps == {}


def test_a_gap_spoils_every_step_that_it_touches_and_no_other() -> None:
    steps = builder()
    for at in (5, 15, 25, 35, 45):
        trade(steps, ONE, at)
        trade(steps, TWO, at)
    steps.on_gap(ONE, 18 * S, "reset")
    steps.on_gap(ONE, 19 * S, "still down")
    steps.on_whole(ONE, 31 * S)
    drafts = [steps.close() for _ in range(5)]
    assert [set(draft.gaps) for draft in drafts] == [set(), {ONE}, {ONE}, {ONE}, set()]
    assert drafts[1].gaps == {ONE: "reset"}
    assert [TWO in draft.bars for draft in drafts] == [True] * 5


def test_what_is_proven_closes_a_gap_and_opens_none_again() -> None:
    steps = builder(seen_from=5)
    steps.on_gap(ONE, 12 * S, "reset")
    steps.on_whole(ONE, 25 * S)
    steps.on_gap(ONE, 33 * S, "silent")
    steps.on_gap(TWO, 12 * S, "reset")
    steps.on_proven(ONE, 0, 20 * S)
    steps.on_proven(ONE, 31 * S, 40 * S)
    assert [draft.gaps for draft in (steps.close() for _ in range(3))] == [
        {TWO: "nobody listened yet"}, {TWO: "reset"}, {ONE: "reset", TWO: "reset"}
    ]  # fmt: skip
    steps.on_whole(ONE, 45 * S)
    steps.on_gap(ONE, 38 * S, "again, from what is proven on")
    assert [set(steps.close().gaps) for _ in range(2)] == [{TWO}, {ONE, TWO}]


def test_a_market_that_went_on_is_known_before_its_trade_is_counted() -> None:
    steps = builder()
    for name in (ONE, TWO):
        steps.on_time(name, 10 * S)
    assert steps.is_due(10 * S)
    assert steps.close().bars == {}


def test_a_gap_that_is_still_open_spoils_every_later_step() -> None:
    steps = builder()
    steps.on_gap(ONE, 12 * S, "silent")
    assert [set(steps.close().gaps) for _ in range(4)] == [set(), {ONE}, {ONE}, {ONE}]


@settings(deadline=None)
@given(
    st.lists(st.floats(min_value=0.0, max_value=49.9), max_size=40),
    st.lists(st.integers(min_value=0, max_value=49), max_size=5),
)
def test_every_trade_of_a_whole_step_is_in_exactly_one_bar(times: list[float], losses: list[int]) -> None:
    steps = builder()
    for number, at in enumerate(sorted(times)):
        trade(steps, ONE, at, number=number)
    for loss in losses:
        steps.on_gap(ONE, loss * S, "lost")
        steps.on_whole(ONE, loss * S)
    drafts = [steps.close() for _ in range(5)]
    for place, draft in enumerate(drafts):
        traded = sum(1 for at in times if int(at * S) // (10 * S) == place)
        is_lost = any(loss // 10 == place for loss in losses)
        assert (ONE in draft.gaps) == is_lost
        assert (draft.bars[ONE].parts if ONE in draft.bars else 0) == (0 if is_lost else traded)


def test_the_longest_interval_of_the_venue_that_fits_is_taken() -> None:
    assert interval_for("mexc", 15 * S) is None
    assert interval_for("binance", 15 * S) == ("1s", S)
    assert interval_for("mexc", 900 * S) == ("15m", 900 * S)
    assert interval_for("mexc", 7_200 * S) == ("1h", 3_600 * S)
    assert interval_for("nowhere", 900 * S) is None


def test_candles_make_a_bar_only_when_none_is_missing_and_somebody_traded() -> None:
    whole = [candle(at, 1) for at in range(4)]
    assert list(bars_of(whole, S, 2 * S)) == [2 * S, 4 * S]
    assert list(bars_of(whole[1:], S, 2 * S)) == [4 * S]
    still = [candle(0, 1, volume=0.0, close=7.0), candle(1, 1, volume=0.0, close=7.0)]
    assert bars_of(still, S, 2 * S) == {}
    half = bars_of([candle(0, 1, volume=0.0, close=7.0), candle(1, 1, close=1.5)], S, 2 * S)
    assert (half[2 * S].close, float(half[2 * S].volume)) == (1.5, 1.0)


def test_a_difference_is_named() -> None:
    ours = candle_of(ONE, bars_of([candle(0, 1)], S, S)[S])
    assert differing(ours, candle(0, 1)) == ()
    assert differing(ours, candle(0, 1, volume=1.0 + 1e-9)) == ()
    assert differing(ours, candle(0, 1, volume=1.1, close=1.5)) == ("close", "volume")
