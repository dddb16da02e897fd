"""A live market: ticks out as they come, steps at their time, nothing invented and nothing passed over in silence."""

import msgspec

from shared.exchange.binance.feed import MarketFeed as BinanceFeed
from shared.exchange.binance.frames import TradeFrame
from shared.exchange.port import Streams
from shared.messages import (
    Bar,
    BarsClosed,
    Bbo,
    BookSnapshot,
    FeedState,
    InstrumentDefinition,
    TradeBatch,
)
from tests.unit.market_data.live_rig import ONE, T0, TWO, Live, S, candle


async def test_bars_are_built_from_trades_and_closed_in_order(live: Live) -> None:
    await live.start()
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    for second in (61, 70, 119, 120.1):
        for name, price in ((ONE, 2.0), (TWO, 5.0)):
            live.trade(name, second, price + second)
    first, second = await live.steps(2)
    assert (first.step, second.step) == (1, 2)
    assert second.close_time_ns == T0 + 120 * S
    assert second.instruments == (ONE, TWO)
    bar = next(one for one in live.of(Bar) if one.close_time_ns == second.close_time_ns and one.instrument == ONE)
    assert (bar.open, bar.high, bar.close, bar.volume) == (63.0, 121.0, 121.0, 3.0)
    kinds = [type(one) for one in live.heard if isinstance(one, Bar | BarsClosed)]
    assert kinds == [BarsClosed, Bar, Bar, BarsClosed]


async def test_a_market_without_trades_is_missing_and_its_price_is_not_repeated(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    live.trade(ONE, 70)
    await live.at(121)
    second = (await live.steps(2))[1]
    assert (second.instruments, second.missing) == ((ONE,), (TWO,))


async def test_a_bar_over_a_gap_is_the_venues_candle_or_missing(live: Live) -> None:
    live.market.candles = {TWO: [candle(TWO, 0)], ONE: [candle(ONE, 0), candle(ONE, 60)]}
    await live.start()
    await live.at(62)
    await live.steps(1)
    for name in (ONE, TWO):
        live.trade(name, 70)
        live.trade(name, 80, 2.1, skip=1)
    await live.at(121)
    second = (await live.steps(2))[1]
    assert (second.instruments, second.missing) == ((ONE,), (TWO,))
    assert live.of(Bar)[-1].close == 2.5
    assert "cascade_market_data_feed_gaps_total 2.0" in live.shown()


async def test_a_lost_connection_spoils_the_bars_of_its_time_and_is_told(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    assert live.market.sink is not None
    for name in (ONE, TWO):
        live.trade(name, 70)
    live.market.sink.on_status(ONE, FeedState.STALE, "reset")
    await live.until(lambda: live.status(ONE).state is FeedState.STALE)
    live.market.sink.on_status(ONE, FeedState.LIVE, "")
    for name in (ONE, TWO):
        live.trade(name, 100)
    await live.at(121)
    assert (await live.steps(2))[1].missing == (ONE,)
    await live.until(lambda: live.status(ONE).state is FeedState.LIVE)
    for name in (ONE, TWO):
        live.trade(name, 130)
    await live.at(181)
    assert (await live.steps(3))[2].missing == ()


async def test_a_lost_connection_spoils_the_bar_whose_last_trades_were_still_to_come(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    assert live.market.sink is not None
    for name in (ONE, TWO):
        live.trade(name, 119)
    await live.at(120.02)
    # Quotes come at once, trades are gathered for a tenth of a second: those of the bar's end are not there yet.
    live.market.quote(ONE, live.now_ns, 1.9, 2.1, 1)
    live.market.sink.on_status(ONE, FeedState.STALE, "reset")
    await live.at(123)
    assert (await live.steps(2))[1].missing == (ONE,)


async def test_a_trade_that_binance_counted_and_nobody_heard_spoils_its_bar(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    assert live.market.sink is not None
    streams = Streams(book=False, bbo=False)
    for name, numbers in ((ONE, (1, 2, 4, 5)), (TWO, (1, 2, 3, 4))):
        feed = BinanceFeed(
            "mexc", name, streams, live.market.sink, stale_after_s=60.0, want_snapshot=lambda _, __: None
        )
        feed.on_up()
        for place, number in enumerate(numbers):
            await live.at(63 + place)
            feed.on_trade(TradeFrame(name, number, 2.0, 1.0, live.now_ns // 1_000_000, False))
    await live.at(122)
    assert (await live.steps(2))[1].missing == (ONE,)


async def test_what_is_missing_before_a_number_may_have_been_traded_before_the_steps_end(live: Live) -> None:
    live.market.candles = {ONE: [candle(ONE, 0)]}
    await live.start()
    live.trade(ONE, 58, 2.1)
    live.trade(TWO, 58, 2.1)
    live.trade(TWO, 61, 2.1)
    live.trade(ONE, 61, 2.1, skip=1)
    await live.steps(1)
    assert {one.instrument: one.close for one in live.of(Bar)} == {ONE: 2.5, TWO: 2.1}, "ONE is the venue's candle"


async def test_a_gap_in_a_book_stops_trading_on_it_but_spoils_no_bar(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    assert live.market.sink is not None
    live.trade(ONE, 70)
    live.trade(TWO, 70)
    live.market.sink.on_status(ONE, FeedState.FROZEN, "the book has a gap")
    await live.until(lambda: live.status(ONE).state is FeedState.FROZEN)
    assert "gap" in live.status(ONE).reason
    live.market.sink.on_status(ONE, FeedState.LIVE, "")
    await live.until(lambda: live.status(ONE).state is FeedState.LIVE)
    await live.at(121)
    assert (await live.steps(2))[1].missing == ()


async def test_a_changed_grid_is_announced_before_the_next_step(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    (known,) = [one.instrument for one in live.of(InstrumentDefinition) if one.instrument.symbol == ONE]
    changed = msgspec.structs.replace(known, tick_size=known.tick_size * 10)
    assert live.market.sink is not None
    live.market.sink.on_instrument(changed)
    live.market.sink.on_instrument(msgspec.structs.replace(known, symbol="NOT-OURS"))
    live.trade(ONE, 70)
    live.trade(TWO, 70)
    await live.at(125)
    await live.steps(2)
    told = [one.instrument for one in live.of(InstrumentDefinition)]
    assert told[-1] == changed
    assert len(told) == 3
    places = [type(one) for one in live.heard if isinstance(one, InstrumentDefinition | BarsClosed)]
    assert places[-2:] == [InstrumentDefinition, BarsClosed]


async def test_a_jump_freezes_the_market_until_it_is_released(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    for second, price in ((65, 2.0), (70, 2_000.0), (71, 2_001.0), (72, 2_002.0)):
        live.trade(ONE, second, price)
    live.trade(TWO, 70)
    await live.at(121)
    assert (await live.steps(2))[1].missing == (ONE,)
    await live.until(lambda: live.status(ONE).state is FeedState.FROZEN)
    published = [trade.price for batch in live.of(TradeBatch) for trade in batch.trades if trade.instrument == ONE]
    assert published == [2.0]
    await live.kill()
    live.market.candles = {}
    await live.start()
    await live.until(lambda: live.status(ONE).state is FeedState.FROZEN)
    reply = await live.ask("release", '{"instrument": "A-USDT"}')
    assert reply.ok, reply.detail
    live.trade(ONE, 130, 2_003.0)
    live.trade(TWO, 130)
    await live.at(181)
    await live.steps(3)
    live.trade(ONE, 190, 2_003.0)
    live.trade(TWO, 190)
    await live.at(241)
    assert (await live.steps(4))[3].missing == ()


async def test_ticks_are_published_batched_at_once_or_throttled(live: Live) -> None:
    await live.start()
    live.trade(ONE, 1, count=120)
    for number in range(1, 6):
        live.market.quote(ONE, T0 + S, 1.9, 2.1, number)
        live.market.levels(ONE, T0 + S, 1.9, 2.1, number)
    await live.until(lambda: bool(live.of(TradeBatch)) and len(live.of(BookSnapshot)) == 2)
    assert [len(batch.trades) for batch in live.of(TradeBatch)] == [50, 50, 20]
    assert [one.sequence for one in live.of(Bbo)] == [1, 2, 3, 4, 5]
    assert [one.sequence for one in live.of(BookSnapshot)] == [1, 5]


async def test_a_tick_that_cannot_be_is_dropped_and_counted(live: Live) -> None:
    await live.start()
    live.market.quote(ONE, T0, 2.1, 1.9, 1)
    live.market.quote(ONE, T0, float("nan"), 1.9, 2)
    live.trade(ONE, 1, -1.0)
    live.market.quote(ONE, T0, 1.9, 2.1, 3)
    await live.until(lambda: bool(live.of(Bbo)))
    assert [one.sequence for one in live.of(Bbo)] == [3]
    assert live.of(TradeBatch) == []
    assert 'cascade_market_data_tick_findings_total{kind="crossed"} 1.0' in live.shown()


async def test_silence_makes_a_market_stale_whatever_the_socket_says(live: Live) -> None:
    await live.start()
    live.trade(ONE, 1)
    live.trade(TWO, 40)
    await live.at(45)
    await live.until(lambda: live.status(ONE).state is FeedState.STALE)
    assert live.status(TWO).state is FeedState.LIVE
    assert live.status(None).state is FeedState.LIVE
    assert ONE in live.status(None).reason


async def test_own_bars_are_compared_with_the_venues(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    assert live.market.streams is not None
    assert live.market.streams.bar_timeframe == "1m"
    await live.at(62)
    await live.steps(1)
    for name in (ONE, TWO):
        live.trade(name, 70, 2.0)
    await live.at(121)
    await live.steps(2)
    assert live.market.sink is not None
    same = Bar("mexc", ONE, "1m", T0 + 60 * S, T0 + 120 * S, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 0, 1)
    live.market.sink.on_venue_bar(same)
    live.market.sink.on_venue_bar(candle(TWO, 60))
    assert 'bars_checked_total{result="same"} 1.0' in live.shown()
    assert 'bars_checked_total{result="different"} 1.0' in live.shown()
    await live.until(lambda: "differs from the venue's candle" in live.status(None).reason)
