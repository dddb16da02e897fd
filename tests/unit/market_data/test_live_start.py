"""How a live market begins: with a fresh step that can be traded, or where it stopped, telling what it missed."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from services.market_data.config import MarketDataConfig
from services.market_data.live import FIRST_STEP_PATIENCE_S
from shared.bus import subjects
from shared.bus.streams import MD_BARS
from shared.exchange.port import MarketSink, Streams
from shared.messages import (
    Bar,
    BarsClosed,
    FeedState,
    MarketStatus,
)
from tests.unit.market_data.live_rig import ONE, T0, TWO, Live, S, candle


async def test_the_first_interval_was_not_seen_whole_so_it_is_the_venues_candle(live: Live) -> None:
    await live.at(20)
    live.market.candles = {ONE: [candle(ONE, 0)]}
    await live.start()
    live.trade(ONE, 30, 2.7)
    live.trade(TWO, 30, 2.7)
    await live.at(61)
    (first,) = await live.steps(1)
    assert (first.instruments, first.missing) == ((ONE,), (TWO,))
    (bar,) = live.of(Bar)
    assert (bar.close, bar.volume, bar.instrument) == (2.5, 3.0, ONE)


async def test_without_fitting_candles_the_first_step_is_the_first_whole_one() -> None:
    live = Live("15s")
    await live.open()
    await live.at(20)
    await live.start()
    live.trade(ONE, 31)
    live.trade(TWO, 31)
    await live.at(46)
    (first,) = await live.steps(1)
    assert (first.close_time_ns, first.instruments) == (T0 + 45 * S, (ONE, TWO))
    await live.kill()


async def start_without_a_book(live: Live) -> None:
    """Start ten seconds before a step's end, with one book still being fetched."""
    opened = live.market.open

    async def open_without_a_book(symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        await opened(symbols, streams, sink)
        sink.on_status(TWO, FeedState.FROZEN, "the book is being fetched")

    live.market.open = open_without_a_book  # type: ignore[method-assign]
    await live.at(50)
    await live.start()
    await live.until(lambda: live.status(TWO).state is FeedState.FROZEN)


async def test_the_very_first_step_waits_for_the_books_and_is_a_fresh_one(live: Live) -> None:
    await start_without_a_book(live)
    for second in (55, 61, 62):
        live.trade(ONE, second)
        live.trade(TWO, second)
        await asyncio.sleep(0.05)
    assert live.of(BarsClosed) == [], "nobody could have traded on it"
    live.market.candles = {name: [candle(name, 60)] for name in (ONE, TWO)}
    live.market.sink.on_status(TWO, FeedState.LIVE, "")  # type: ignore[union-attr]
    await live.until(lambda: live.status(TWO).state is FeedState.LIVE)
    await live.at(121)
    (first,) = await live.steps(1)
    assert (first.close_time_ns, first.instruments) == (T0 + 120 * S, (ONE, TWO))


async def test_that_the_books_are_there_is_told_at_once_and_not_at_the_next_report(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.market_data.live.STATUS_INTERVAL_S", 3_600.0)
    await start_without_a_book(live)
    live.market.sink.on_status(TWO, FeedState.LIVE, "")  # type: ignore[union-attr]
    await live.until(lambda: live.status(TWO).state is FeedState.LIVE)
    await live.at(61)
    assert (await live.steps(1))[0].close_time_ns == T0 + 60 * S


async def test_books_that_never_come_do_not_stop_the_steps(live: Live) -> None:
    await start_without_a_book(live)
    await live.at(50 + FIRST_STEP_PATIENCE_S + 1)
    await live.until(lambda: live.service._builder.next_close_ns == T0 + 120 * S)  # type: ignore[union-attr]
    await live.at(121)
    (first,) = await live.steps(1)
    assert first.close_time_ns == T0 + 120 * S


async def test_a_restart_goes_on_after_the_last_step_and_tells_what_it_missed(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    await live.kill()
    live.market.candles = {ONE: [candle(ONE, 60), candle(ONE, 180)], TWO: [candle(TWO, 180)]}
    await live.at(250)
    await live.start()
    steps = await live.steps(4)
    assert [one.step for one in steps] == [1, 2, 3, 4]
    assert [(one.close_time_ns - T0) // S for one in steps] == [60, 120, 180, 240]
    assert [one.missing for one in steps[1:]] == [(TWO,), (ONE, TWO), ()]
    await live.at(301)
    assert (await live.steps(5))[4].close_time_ns == T0 + 300 * S
    stored = [one.message for one in await live.bus.history(MD_BARS, f"md.bar.1m.mexc.{ONE}", limit=100)]
    times = [one.close_time_ns for one in stored if isinstance(one, Bar)]
    assert times == sorted(set(times))


@pytest.mark.parametrize("candles", [[candle(ONE, 60, 2.6, 3.1), candle(TWO, 60)], [candle(TWO, 60)]])
async def test_what_a_crash_left_of_a_step_stands_whatever_the_venue_says_of_it_later(
    live: Live, candles: list[Bar]
) -> None:
    await live.start()
    await live.at(62)
    await live.steps(1)
    await live.kill()
    half = replace(candle(ONE, 60), ts_recv_ns=T0 + 120 * S)
    await live.bus.publish(subjects.bar("1m", "mexc", ONE), half, message_id="half")
    live.market.candles = {name: [one for one in candles if one.instrument == name] for name in (ONE, TWO)}
    await live.at(130)
    await live.start()
    _, second = await live.steps(2)
    assert (second.instruments, second.missing) == ((ONE, TWO), ())
    stored = [one.message for one in await live.bus.history(MD_BARS, f"md.bar.1m.mexc.{ONE}", limit=100)]
    assert stored == [half]


async def test_after_a_very_long_time_the_oldest_steps_are_passed_over_and_counted(live: Live) -> None:
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    await live.kill()
    await live.at(60 * 20 + 1)
    await live.start(MarketDataConfig(catch_up_steps_max=3))
    steps = await live.steps(4)
    assert [(one.close_time_ns - T0) // 60 // S for one in steps] == [1, 18, 19, 20]
    assert "cascade_market_data_steps_skipped_total 16.0" in live.shown()


async def test_a_venue_that_does_not_answer_at_first_is_waited_for(live: Live) -> None:
    live.market.failures = 2
    await live.start()
    assert live.market.sink is not None
    await live.until(lambda: bool(live.of(MarketStatus)))


async def test_a_computer_that_slept_passes_no_half_bar_off_as_whole_and_asks_for_what_it_missed(live: Live) -> None:
    live.market.candles = {name: [candle(name, second) for second in range(0, 600, 60)] for name in (ONE, TWO)}
    await live.start()
    for name in (ONE, TWO):
        live.trade(name, 61)
    await live.steps(1)
    for name in (ONE, TWO):
        live.trade(name, 70)
    live.sleep(300)
    steps = await live.steps(6)
    assert [one.close_time_ns for one in steps] == [T0 + second * S for second in range(60, 361, 60)]
    assert all(one.instruments == (ONE, TWO) for one in steps[1:])
    bars = [one for one in live.of(Bar) if one.instrument == ONE and one.open_time_ns > T0]
    assert [one.close for one in bars] == [2.5] * 5, "the venue's candles, not the trades of ten seconds"
    spans = [end - start for name, _, start, end in live.market.asked if name == ONE]
    assert max(spans) == 300 * S, "asked for together"
    assert live.market.reconnects == ["this computer slept for 300 s, or its clock was set"]


async def test_a_connection_that_died_while_the_computer_slept_is_not_trusted_until_it_is_a_new_one(live: Live) -> None:
    live.market.candles = {name: [candle(name, second) for second in range(0, 300, 60)] for name in (ONE, TWO)}
    await live.start()
    for name in (ONE, TWO):
        live.trade(name, 62)
    await live.steps(1)
    live.sleep(20)
    await live.until(lambda: live.status(ONE).state is FeedState.STALE)
    assert "slept for 20 s" in live.status(ONE).reason
    assert live.market.sink is not None
    live.market.sink.on_status(None, FeedState.LIVE, "")
    for name in (ONE, TWO):
        live.trade(name, 90)
    await live.until(lambda: live.status(ONE).state is FeedState.LIVE)
    await live.at(121)
    assert (await live.steps(2))[1].instruments == (ONE, TWO)
    for name in (ONE, TWO):
        live.trade(name, 130, 4.0)
    await live.at(181)
    await live.steps(3)
    closes = {one.open_time_ns: one.close for one in live.of(Bar) if one.instrument == ONE}
    assert closes[T0 + 60 * S] == 2.5, "the venue's candle"
    assert closes[T0 + 120 * S] == 4.0, "our own again"


async def test_a_venue_that_is_not_reached_after_a_sleep_is_waited_for(live: Live) -> None:
    live.market.candles = {name: [candle(name, second) for second in range(0, 300, 60)] for name in (ONE, TWO)}
    await live.start()
    await live.at(62)
    await live.steps(1)
    live.market.failures = 3
    live.sleep(130)
    steps = await live.steps(3)
    assert [one.instruments for one in steps[1:]] == [(ONE, TWO)] * 2, "the network came back, so did the candles"
