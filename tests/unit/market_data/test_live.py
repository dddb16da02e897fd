"""A live market: ticks out as they come, steps at their time, nothing invented and nothing passed over in silence."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import structlog
from prometheus_client import generate_latest

from services.market_data.config import MarketDataConfig
from services.market_data.live import LiveMarketService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.clock import monotonic_ns
from shared.config import StackConfig
from shared.exchange.binance.feed import MarketFeed as BinanceFeed
from shared.exchange.binance.frames import TradeFrame
from shared.exchange.port import Streams
from shared.messages import (
    Bar,
    BarsClosed,
    Bbo,
    BookSnapshot,
    Command,
    CommandReply,
    FeedState,
    InstrumentDefinition,
    MarketStatus,
    Message,
    TradeBatch,
)
from shared.metrics import Metrics
from shared.testing.fake_market import FakeVenueMarket

S = 1_000_000_000
T0 = 1_800_000_000 * S
ONE, TWO = "A-USDT", "B-USDT"
CONFIG = MarketDataConfig(candles_timeout_s=0.5)
PATIENCE_S = 10.0


class Live:
    """Run the service over a memory bus with a clock of the test's own."""

    def __init__(self, timeframe: str = "1m") -> None:
        self.now_ns = T0
        self.stack = StackConfig(assets=(ONE, TWO), timeframe=timeframe)
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker)
        self.market = FakeVenueMarket()
        self.heard: list[Message] = []
        self.failed: list[BaseException] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics("market_data")
        self.service: LiveMarketService | None = None

    async def open(self) -> None:
        await self.bus.connect()
        await self.bus.bootstrap(STREAMS, BUCKETS)

        async def hear(delivery: Delivery) -> None:
            self.heard.append(delivery.message)

        await self.bus.subscribe("md.>", hear)

    async def start(self, config: MarketDataConfig = CONFIG) -> None:
        self.metrics = Metrics("market_data")
        self.service = LiveMarketService(
            self.bus, self.market, self.stack, config,
            spawn=self._spawn, metrics=self.metrics, log=structlog.get_logger(), read_wall_ns=lambda: self.now_ns,
        )  # fmt: skip
        await self.service.start()

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for subscription in [] if self.service is None else self.service._subscriptions:
            await subscription.stop()
        self.tasks, self.market = [], FakeVenueMarket()

    async def at(self, second: float) -> None:
        self.now_ns = T0 + int(second * S)
        await asyncio.sleep(0)

    def trade(self, name: str, second: float, price: float = 2.0, *, count: int = 1, skip: int = 0) -> None:
        self.now_ns = max(self.now_ns, T0 + int(second * S))
        self.market.trade(name, T0 + int(second * S), price, count=count, skip=skip)

    async def steps(self, count: int) -> list[BarsClosed]:
        await self.until(lambda: len(self.of(BarsClosed)) >= count)
        return self.of(BarsClosed)

    def of[M: Message](self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def until(self, done: Callable[[], bool]) -> None:
        give_up_ns = monotonic_ns() + PATIENCE_S * S
        while not done():
            assert not self.failed, self.failed
            assert monotonic_ns() < give_up_ns, [type(one).__name__ for one in self.heard]
            await asyncio.sleep(0.005)

    async def ask(self, verb: str, arguments: str = "{}") -> CommandReply:
        command = Command(verb, "alex", "because", f"c-{len(self.heard)}", arguments, 0)
        reply = await self.bus.request(subjects.command("market_data", verb), command, timeout_s=5)
        assert isinstance(reply, CommandReply)
        return reply

    def shown(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def status(self, name: str | None) -> MarketStatus:
        unknown = MarketStatus("mexc", name, FeedState.ENDED, "", 0)
        return [unknown, *(one for one in self.of(MarketStatus) if one.instrument == name)][-1]

    def _spawn(self, work: object, name: str) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await work  # type: ignore[misc]
            except Exception as error:
                self.failed.append(error)
                raise

        self.tasks.append(asyncio.create_task(run(), name=name))
        return self.tasks[-1]


def candle(name: str, second: int, close: float = 2.5, volume: float = 3.0) -> Bar:
    start = T0 + second * S
    return Bar("mexc", name, "1m", start, start + 60 * S, 2.0, 3.0, 1.0, close, volume, 7.5, start, 1)


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    one = Live()
    await one.open()
    yield one
    await one.kill()
    assert one.failed == []


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


async def test_a_venue_that_does_not_answer_at_first_is_waited_for(live: Live) -> None:
    live.market.failures = 2
    await live.start()
    assert live.market.sink is not None
    await live.until(lambda: bool(live.of(MarketStatus)))
