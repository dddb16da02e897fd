"""The venue's own candles: closed ones, each once, in order, equal to what its trades say."""

import asyncio
from collections.abc import Callable

import pytest

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.exchange.binance.feed import MarketFeed
from shared.exchange.binance.frames import KlineFrame
from shared.exchange.live.config import WireConfig
from shared.exchange.port import Streams
from shared.exchange.venues import make_market
from shared.messages import Bar, Trade
from shared.testing.market_sink import RecordingSink
from tests.integration.sandbox.in_process import sandbox_in_process

TOKEN, MARKET = "BTC-USDT", "BTCUSDT"
TIMEFRAME, LENGTH_NS = "1m", 60_000_000_000


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def matches(bar: Bar, trades: list[Trade]) -> bool:
    prices = [one.price for one in trades if bar.open_time_ns <= one.ts_event_ns < bar.close_time_ns]
    volume = sum(one.quantity for one in trades if bar.open_time_ns <= one.ts_event_ns < bar.close_time_ns)
    told = (bar.open, bar.high, bar.low, bar.close)
    return told == (prices[0], max(prices), min(prices), prices[-1]) and bar.volume == pytest.approx(volume)


# Binance streams its candles, MEXC is asked for closed ones.
@pytest.mark.parametrize("name", ["binance", "mexc"])
async def test_closed_candles_are_handed_on_once_each_and_agree_with_the_trades(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ones, on_kline = [0], MarketFeed.on_kline

    def counted(feed: MarketFeed, frame: KlineFrame) -> None:
        open_ones[0] += not frame.k.x
        on_kline(feed, frame)

    monkeypatch.setattr(MarketFeed, "on_kline", counted)
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox:
        config = WireConfig(
            venue=name, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ws_api_url=sandbox.ws_api_url,
            clock_interval_s=0.5,
        )  # fmt: skip
        market, sink = make_market(config), RecordingSink()
        try:
            opened_ns = wall_ns()
            await market.open([TOKEN], Streams(bar_timeframe=TIMEFRAME), sink)
            moves = 0
            while len(with_trades(sink)) < 2:
                told = open_ones[0]
                for side in ("buy", "sell", "buy"):
                    await sandbox.admin.order(MARKET, side, "0.001")
                moves += 1
                await until(lambda count=3 * moves: len(sink.trades) >= count)
                # Binance tells first of a candle that is open. Then the venue's clock moves on, and the candle ends.
                await until(lambda told=told: name == "mexc" or open_ones[0] > told)
                await sandbox.admin.disarm()
                await sandbox.admin.arm("clock_skew", parameter=60 * moves, times=None)
                await until(
                    lambda ahead=moves * LENGTH_NS: abs(market.clock_offset_ns() - ahead) < NANOSECONDS_PER_SECOND
                )
            opens = [bar.open_time_ns for bar in sink.bars]
            assert opens == sorted(set(opens))
            for bar in sink.bars:
                assert (bar.timeframe, bar.instrument, bar.venue) == (TIMEFRAME, TOKEN, name)
                assert bar.close_time_ns - bar.open_time_ns == LENGTH_NS and bar.open_time_ns % LENGTH_NS == 0
                assert bar.close_time_ns > opened_ns
                assert bar.close_time_ns <= wall_ns() + market.clock_offset_ns()
            assert [bar.sequence - sink.bars[0].sequence for bar in sink.bars] == list(range(len(sink.bars)))
            for bar in with_trades(sink):
                assert matches(bar, sink.trades)
            listed = await market.bars(TOKEN, TIMEFRAME, opens[0], opens[-1] + 1)
            assert [(one.open_time_ns, one.close) for one in listed] == [
                (one.open_time_ns, one.close) for one in sink.bars
            ]
        finally:
            await market.close()


def with_trades(sink: RecordingSink) -> list[Bar]:
    return [bar for bar in sink.bars if bar.volume > 0]
