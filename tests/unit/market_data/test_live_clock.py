"""Somebody sets this computer's clock while a live market runs: nothing goes by it before the venue's is measured."""

import asyncio

import pytest
import structlog

from services.market_data import proof
from services.market_data.core.quality import QualityState
from services.market_data.core.quality_words import Limits
from services.market_data.ticks import Ticks
from services.market_data.waking import Waking
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.exchange.port import Recovered
from shared.messages import Bar, BarsClosed, FeedState
from shared.metrics import Metrics
from shared.pauses import PauseWatch
from shared.testing.fake_market import FakeVenueMarket
from tests.unit.market_data.live_rig import ONE, T0, TWO, Live, S, candle
from tests.unit.market_data.test_live_start import start_without_a_book


class Measured:
    """Hold the answer about the venue's clock back until it is told."""

    def __init__(self, live: Live) -> None:
        self._live, self._answers, self.asked = live, asyncio.Event(), 0
        live.market.measure_clock = self.measure  # type: ignore[method-assign]

    async def measure(self) -> None:
        self.asked += 1
        await self._answers.wait()

    def set_clock(self, seconds: int) -> None:
        """Set this computer's clock; the venue's goes on as it was."""
        self._live.now_ns += seconds * S
        self._live.slept_ns += seconds * S
        self._off_ns = -seconds * S

    def answer(self) -> None:
        """Tell how far the venue's clock is ahead."""
        off_ns = self._off_ns
        self._live.market.clock_offset_ns = lambda: off_ns  # type: ignore[method-assign]
        self._answers.set()


async def test_a_clock_that_was_set_forward_closes_no_step_that_is_not_over(live: Live) -> None:
    live.market.candles = {name: [candle(name, second) for second in range(0, 180, 60)] for name in (ONE, TWO)}
    await live.start()
    for name in (ONE, TWO):
        live.trade(name, 61)
    await live.steps(1)
    clock = Measured(live)
    clock.set_clock(3600)
    await live.until(lambda: clock.asked == 1)
    clock.answer()
    live.now_ns += 60 * S
    steps = await live.steps(2)
    assert [(one.close_time_ns - T0) // S for one in steps] == [60, 120]
    live.now_ns += 60 * S
    assert [(one.close_time_ns - T0) // S for one in await live.steps(3)] == [60, 120, 180]


async def test_a_clock_that_is_set_while_the_books_are_awaited_moves_the_first_step_nowhere(live: Live) -> None:
    await start_without_a_book(live)
    clock = Measured(live)
    clock.set_clock(3600)
    await live.until(lambda: clock.asked == 1)
    clock.answer()
    live.market.sink.on_status(TWO, FeedState.LIVE, "")  # type: ignore[union-attr]
    await live.until(lambda: live.service._waking.is_awake)  # type: ignore[union-attr]
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    live.now_ns += 11 * S
    (first,) = await live.steps(1)
    assert first.close_time_ns == T0 + 60 * S


async def test_trades_that_a_clock_set_back_made_look_wrong_are_missing_from_no_bar(live: Live) -> None:
    live.market.candles = {name: [candle(name, second) for second in (0, 60)] for name in (ONE, TWO)}
    await live.start()
    for name in (ONE, TWO):
        live.trade(name, 60.5)
    await live.steps(1)
    clock = Measured(live)
    clock.set_clock(-30)
    await live.until(lambda: clock.asked == 1)
    assert live.market.sink is not None
    live.market.sink.on_status(None, FeedState.LIVE, "")
    live.now_ns = T0 + 45 * S
    for name in (ONE, TWO):
        live.market.trade(name, T0 + 75 * S, 2.2)
    clock.answer()
    await live.until(lambda: live.service._waking.is_awake)  # type: ignore[union-attr]
    live.now_ns = T0 + 60 * S
    for name in (ONE, TWO):
        live.market.trade(name, T0 + 90 * S, 2.3)
    live.now_ns = T0 + 93 * S
    steps = await live.steps(2)
    assert [(one.close_time_ns - T0) // S for one in steps] == [60, 120]
    bars = [one for one in live.of(Bar) if one.close_time_ns == T0 + 120 * S]
    assert [one.close for one in bars] == [2.5, 2.5], "the venue's candles: a trade of ours was refused"
    assert len(live.of(BarsClosed)) == 2


async def test_that_nothing_is_trusted_after_a_sleep_is_told_before_any_step(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.market_data.live.STATUS_INTERVAL_S", 3_600.0)
    live.market.candles = {name: [candle(name, 0)] for name in (ONE, TWO)}
    await live.start()
    for name in (ONE, TWO):
        live.trade(name, 61)
    await live.steps(1)
    clock = Measured(live)
    live.sleep(4_000)
    await live.until(lambda: clock.asked == 1)
    await live.until(lambda: live.status(ONE).state is FeedState.STALE)
    assert len(live.of(BarsClosed)) == 1


async def test_nothing_is_proven_up_to_a_time_that_never_was(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "LOOK_S", 0.01)
    live.market.is_counted = False
    await live.start()
    asked = list[int]()
    recover = live.market.recover

    async def note(instrument: str, start_ns: int, end_ns: int) -> Recovered:
        asked.append(end_ns)
        return await recover(instrument, start_ns, end_ns)

    monkeypatch.setattr(live.market, "recover", note)
    await live.at(20)
    await live.until(lambda: len(asked) >= 2)
    clock = Measured(live)
    clock.set_clock(3600)
    await live.until(lambda: clock.asked == 1)
    await asyncio.sleep(0.1)
    clock.answer()
    await live.until(lambda: live.service._waking.is_awake)  # type: ignore[union-attr]
    live.now_ns += 20 * S
    await live.until(lambda: len(asked) >= 4)
    assert max(asked) <= T0 + 40 * S


def make_ticks() -> Ticks:
    return Ticks(
        MemoryBus(MemoryBroker()), "mexc", {ONE: QualityState()}, Limits(), now_ns=lambda: T0, book_interval_s=1.0,
        on_freeze=lambda *_: None, on_venue_bar=lambda _: None, metrics=Metrics("market_data"),
        log=structlog.get_logger(),
    )  # fmt: skip


def test_a_pause_just_before_the_time_is_read_is_noticed() -> None:
    wall = [T0]

    def sleep_and_read() -> int:
        wall[0] += 300 * S
        return wall[0]

    waking = Waking(
        FakeVenueMarket(), PauseWatch(every_s=1.0, now_ns=lambda: wall[0]), lambda: wall[0], structlog.get_logger()
    )
    waking._now_ns = sleep_and_read
    waking.look(make_ticks())
    assert not waking.is_awake


async def test_a_pause_while_the_clock_is_measured_is_measured_again_and_nothing_between_is_trusted() -> None:
    wall, holes, market = [T0], list[tuple[int, int]](), FakeVenueMarket()
    waking = Waking(market, PauseWatch(every_s=1.0, now_ns=lambda: wall[0]), lambda: wall[0], structlog.get_logger())
    ticks, asked = make_ticks(), [0]

    async def measure() -> None:
        asked[0] += 1
        wall[0] += 50 * S if asked[0] == 1 else S

    market.measure_clock = measure  # type: ignore[method-assign]
    ticks.on_hole = lambda from_ns, until_ns, _: holes.append((from_ns, until_ns))  # type: ignore[method-assign]
    wall[0] += 20 * S
    waking.look(ticks)
    assert await waking.wake(ticks, lambda: False) == T0 + 71 * S
    assert (asked, holes, waking.is_awake) == ([2], [(T0, T0 + 71 * S)], True)
