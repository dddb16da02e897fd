"""Trades that their venue does not count: held to its list before a step closes, and named where that says nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.market_data import proof
from services.market_data.config import MarketDataConfig
from shared.exchange.port import Recovered
from shared.messages import Bar, BarsClosed, FeedState, Side, Trade, TradeBatch
from tests.unit.market_data.live_rig import ONE, T0, TWO, Live, S, candle

CONFIG = MarketDataConfig(candles_timeout_s=0.5)


@pytest.fixture
async def live(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    monkeypatch.setattr(proof, "SETTLED_NS", 0)
    monkeypatch.setattr(proof, "AGAIN_S", 0.01)
    one = Live()
    await one.open()
    one.market.is_counted = False
    yield one
    await one.kill()
    assert one.failed == []


def listed(name: str, second: float, price: float, number: int = 0, quantity: float = 1.0) -> Trade:
    at_ns = T0 + int(second * S)
    return Trade("mexc", name, f"{name}-r{number}", Side.BUY, price, quantity, at_ns, at_ns, 1_000 + number)


async def started(live: Live, *trades: Trade, lost: tuple[int, ...] = ()) -> None:
    for name in (ONE, TWO):
        live.market.listed[name] = [one for one in trades if one.instrument == name]
    live.market.lost = {one.trade_id for number, one in enumerate(trades) if number in lost}
    await live.start(CONFIG)


def bar(live: Live, name: str = ONE, close: int = 60) -> Bar | None:
    found = (one for one in live.of(Bar) if one.instrument == name and one.close_time_ns == T0 + close * S)
    return next(found, None)


def shape(one: Bar | None) -> tuple[float, ...]:
    assert one is not None
    return one.open, one.high, one.low, one.close, one.volume


async def test_lost_trades_are_in_their_bar_in_their_place_and_are_told(live: Live) -> None:
    rows = [listed(ONE, at, price, n) for n, (at, price) in enumerate(((1, 5.0), (2, 2.0), (3, 2.1), (59, 4.0)))]
    await started(live, *rows, lost=(0, 3))
    for second, price in ((2, 2.0), (3, 2.1)):
        live.trade(ONE, second, price)
    await live.at(61)
    (step,) = await live.steps(1)
    assert shape(bar(live)) == (5.0, 5.0, 2.0, 4.0, 4.0)
    assert step.instruments == (ONE,)
    prices = [one.price for batch in live.of(TradeBatch) for one in batch.trades]
    assert sorted(prices) == [2.0, 2.1, 4.0, 5.0]
    assert "cascade_market_data_trades_recovered_total 2.0" in live.shown()
    assert "cascade_market_data_bars_repaired_total 1.0" in live.shown()


async def test_the_time_before_anybody_listened_and_after_a_reset_is_the_lists(live: Live) -> None:
    await live.at(30)
    await started(live, listed(ONE, 3, 2.5), listed(ONE, 40, 2.6, 1))
    assert live.market.sink is not None
    live.market.sink.on_status(ONE, FeedState.STALE, "reset")
    await live.at(61)
    (step,) = await live.steps(1)
    assert (step.instruments, step.missing) == ((ONE,), (TWO,))
    assert shape(bar(live)) == (2.5, 2.6, 2.5, 2.6, 2.0)


async def test_a_bar_that_nothing_confirms_is_published_and_named_until_the_next_one_is(live: Live) -> None:
    await started(live)
    live.market.problem = "the venue's list lacks 1 of the trades that it streamed"
    live.trade(ONE, 5, 2.0)
    await live.at(61)
    (step,) = await live.steps(1)
    assert step.instruments == (ONE,)
    await live.until(lambda: "not proven" in live.status(None).reason)
    assert live.service is not None
    assert "lacks 1 of the trades" in live.service.report.unproven[ONE]
    assert TWO not in live.service.report.unproven, "of a market without a bar nothing was published"
    assert "cascade_market_data_bars_unproven_total 1.0" in live.shown()
    live.market.problem = ""
    live.market.listed[ONE] = [listed(ONE, 70, 2.0)]
    live.trade(ONE, 70, 2.0)
    await live.at(121)
    await live.steps(2)
    await live.until(lambda: "not proven" not in live.status(None).reason)


@pytest.mark.parametrize(("volume", "expected"), [(3.0, 3.0), (0.5, 1.0)])
async def test_without_a_list_the_candle_counts_unless_it_is_older_than_what_we_heard(
    live: Live, volume: float, expected: float
) -> None:
    live.market.candles = {ONE: [candle(ONE, 0, volume=volume)]}
    await started(live)
    live.market.problem = "no answer"
    live.trade(ONE, 5, 2.0)
    await live.at(61)
    await live.steps(1)
    assert shape(bar(live))[-1] == expected
    assert live.service is not None
    assert (ONE in live.service.report.unproven) == (expected == 1.0)


async def test_a_list_that_goes_back_too_little_leaves_doubt_about_the_rest(live: Live) -> None:
    await started(live, listed(ONE, 5, 9.0), listed(ONE, 20, 2.2, 1))
    live.market.listed_from_ns = T0 + 10 * S
    live.trade(ONE, 5, 2.0)
    live.trade(ONE, 20, 2.2)
    await live.at(61)
    await live.steps(1)
    assert shape(bar(live)) == (2.0, 2.2, 2.0, 2.2, 2.0)
    assert live.service is not None
    assert "more was traded" in live.service.report.unproven[ONE]


async def test_a_bad_print_stays_out_although_the_venue_lists_it(live: Live) -> None:
    await started(live, listed(ONE, 5, 2.0), listed(ONE, 6, 2_000.0, 1), listed(ONE, 7, 900.0, 2), lost=(2,))
    live.trade(ONE, 5, 2.0)
    live.trade(ONE, 6, 2_000.0)
    await live.at(61)
    await live.steps(1)
    assert shape(bar(live)) == (2.0, 2.0, 2.0, 2.0, 1.0)
    prices = [one.price for batch in live.of(TradeBatch) for one in batch.trades]
    assert prices == [2.0]


async def test_a_trade_after_its_bar_was_out_is_named(live: Live) -> None:
    await started(live, listed(ONE, 5, 2.0))
    live.trade(ONE, 5, 2.0)
    await live.at(61)
    await live.steps(1)
    live.market.trade(ONE, T0 + 59 * S, 2.1)
    await live.until(lambda: "after their bar was published" in live.status(None).reason)
    assert "cascade_market_data_bars_unproven_total 1.0" in live.shown()


async def test_a_trade_that_the_list_should_have_had_is_counted_and_throws_doubt(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "EVERY_S", 1.0)
    monkeypatch.setattr(proof, "LOOK_S", 0.01)
    await started(live, listed(ONE, 5, 2.0))
    live.trade(ONE, 5, 2.0)
    await live.at(20)
    assert live.service is not None and live.service._proof is not None
    held = live.service._proof
    await live.until(lambda: held._until_ns[ONE] >= T0 + 20 * S)
    live.market.trade(ONE, T0 + 15 * S, 2.3)
    await live.at(61)
    await live.steps(1)
    assert shape(bar(live)) == (2.0, 2.3, 2.0, 2.3, 2.0)
    assert "came after" in live.service.report.unproven[ONE]


async def test_a_list_that_proves_nothing_is_not_asked_for_again_and_again(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "EVERY_S", 10.0)
    monkeypatch.setattr(proof, "LOOK_S", 0.001)
    looks = 0
    asked: list[int] = []
    await started(live)
    live.market.problem = "no answer"
    recover = live.market.recover

    async def counted(instrument: str, start_ns: int, end_ns: int) -> Recovered:
        asked.append(end_ns)
        return await recover(instrument, start_ns, end_ns)

    monkeypatch.setattr(live.market, "recover", counted)
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += seconds == proof.LOOK_S
        await real_sleep(seconds)

    monkeypatch.setattr(proof.asyncio, "sleep", sleep)
    for second in (11, 22):
        await live.at(second)
        before = looks
        await live.until(lambda before=before: looks > before + 20)  # type: ignore[misc]
    assert len(asked) == 4, "once for each market and ten seconds"


async def test_a_venue_that_counts_its_trades_is_not_asked(live: Live) -> None:
    live.market.is_counted = True
    live.market.problem = "not asked"
    await started(live)
    live.trade(ONE, 1)
    await live.at(61)
    (step,) = await live.steps(1)
    assert isinstance(step, BarsClosed)
    assert live.service is not None
    assert live.service.report.unproven == {}
