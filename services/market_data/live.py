"""Run a live market: listen to a venue, close the steps, say how far each market is trusted.

In: a venue's trades, quotes, books and candles; operator commands. Out: ticks as they come, each step when its time has
come, `md.status.<venue>` each second. Never: a step twice, a step that is left out without a word, a bar that was built
over a gap, a price that nobody traded at.

Where a venue does not count its trades (MEXC), a frame may be lost without a mark: a step's trades are held to the
venue's own list before it closes (`proof.py`), then to its candle. A bar of which neither says that it is whole is
published, and named in `md.status`, in the status command, in the log and in `bars_unproven`.

A step that closed while nobody listened is made from the venue's candles where the venue has that interval; else its
bars are reported missing. Only after more than `catch_up_steps_max` of them the oldest are passed over, loudly.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Candle, MarketStep, utc_text
from services.market_data.core.live_steps import Draft, StepBuilder
from services.market_data.core.quality import QualityState, begun_anew
from services.market_data.core.venue_candles import candle_of, is_other
from services.market_data.desk import FeedReport, OperatorDesk
from services.market_data.guard import QualityGuard
from services.market_data.live_feed import LiveFeed
from services.market_data.live_status import Announcer
from services.market_data.patience import RETRY_MAX_S, RETRY_S, until_answered
from services.market_data.proof import Proof
from services.market_data.publisher import StepPublisher
from services.market_data.ticks import Ticks
from services.market_data.venue_bars import VenueBars
from services.market_data.waking import Waking
from shared.bus.port import Bus, Subscription
from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, wall_ns
from shared.config import StackConfig, timeframe_ns
from shared.domain.bars import ClosedBar
from shared.errors import BusUnavailableError
from shared.exchange.port import Streams, VenueMarket
from shared.logs import Log
from shared.messages import FeedState, Instrument
from shared.metrics import Metrics
from shared.pauses import PauseWatch

STATUS_INTERVAL_S = 1.0
LOOK_S, LOOK_MAX_S = 0.02, 0.25
FIRST_STEP_PATIENCE_S = 15.0

Spawn = Callable[[Awaitable[None], str], asyncio.Task[None]]


class LiveMarketService:
    """Publish a venue's live market; `market` is not opened yet."""

    def __init__(
        self,
        bus: Bus,
        market: VenueMarket,
        stack: StackConfig,
        config: MarketDataConfig,
        *,
        spawn: Spawn,
        metrics: Metrics,
        log: Log,
        read_wall_ns: Callable[[], int] = wall_ns,
        read_pause_ns: Callable[[], int] = wall_ns,
        on_detail: Callable[[str], None] | None = None,
    ) -> None:
        self._bus, self._market, self._stack, self._config = bus, market, stack, config
        self._spawn, self._metrics, self._log = spawn, metrics, log
        self._wall_ns, self._on_detail = read_wall_ns, on_detail
        self._venue, self._interval_ns = stack.venue, timeframe_ns(stack.timeframe)
        self._guard = QualityGuard(bus, stack.venue, config.limits, metrics=metrics, log=log)
        self._announcer = Announcer(bus, stack.venue, self._guard)
        self._waking = Waking(market, PauseWatch(every_s=STATUS_INTERVAL_S, now_ns=read_pause_ns), self._now_ns, log)
        self._desk = OperatorDesk(bus, self._release, lambda: self.report, log=log, read_wall_ns=read_wall_ns)
        self._bars = VenueBars(
            market, stack.timeframe, self._interval_ns, timeout_s=config.candles_timeout_s, metrics=metrics, log=log
        )
        self._feed = LiveFeed(stack.venue, stack.mode.value, stack.timeframe, ())
        self._publisher: StepPublisher
        self._ticks: Ticks
        self._builder: StepBuilder
        self._proof: Proof | None = None
        self._unproven: dict[str, str] = {}
        self._late: dict[str, int] = {}
        self._is_stopping = self._is_redefined = False
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._steps = metrics.counter("steps_published", "Steps that are complete in the stream")
        self._missing = metrics.counter("bars_missing", "Bars of published steps that were reported missing")
        self._unproven_bars = metrics.counter(
            "bars_unproven", "Bars published, or published without a late trade, that the venue's data does not confirm"
        )
        self._skipped = metrics.counter("steps_skipped", "Steps passed over after a long time without this service")
        self._last_close = metrics.gauge("last_close_time_seconds", "Market time of the newest step, Unix seconds")
        self._late_s = metrics.gauge("step_delay_seconds", "How long after its end the newest step was published")

    @property
    def report(self) -> FeedReport:
        """Return where the feed is and how far it is trusted."""
        frozen = self._guard.frozen
        stale = {
            one.symbol: trust.reason
            for one in self._feed.instruments
            if one.symbol not in frozen and (trust := self._ticks.trust(one.symbol)).state is not FeedState.LIVE
        }
        parts = [
            f"{', '.join(sorted(names))} {what}" for names, what in ((frozen, "frozen"), (stale, "stale")) if names
        ]
        parts += [f"{name}: {why}" for name, why in sorted(self._unproven.items())]
        if self._bars.difference:
            parts.append(self._bars.difference)
        last = self._publisher.last
        is_stale = len(stale) == len(self._feed.instruments)
        return FeedReport(
            feed=self._feed.description,
            state=FeedState.STALE if is_stale else FeedState.LIVE,
            reason="; ".join(parts) or "live",
            step=0 if last is None else last.step,
            close_time_ns=0 if last is None else last.close_time_ns,
            speed=1.0,
            paused=False,
            waiting_for=(),
            frozen=frozen,
            stale=stale,
            unproven=dict(self._unproven),
        )

    async def start(self) -> None:
        """Learn the markets, find where the stream ends, listen; however long the venue does not answer."""
        instruments = await until_answered(
            lambda: self._market.instruments(self._stack.assets), "instruments", self._log
        )
        self._feed = LiveFeed(self._venue, self._stack.mode.value, self._stack.timeframe, instruments)
        self._publisher = StepPublisher(self._bus, self._feed, self._venue)
        await self._publisher.recover()
        await self._guard.load(self._publisher.newest)
        await self._publisher.publish_definitions()
        self._ticks = self._make_ticks(instruments)
        if not self._market.counts_trades:
            self._proof = self._ticks.proof = self._make_proof()
        streams = Streams(book_levels=self._config.book_levels, bar_timeframe=self._bars.stream_timeframe)
        await until_answered(lambda: self._market.open(self._stack.assets, streams, self._ticks), "streams", self._log)
        self._builder = self._ticks.builder = self._make_builder()
        if self._proof is not None:
            self._proof.begin(self._builder, self._builder.next_close_ns - self._interval_ns)
        self._subscriptions = await self._desk.open()
        self._log.info("feed", feed=self._feed.description, next_step=self._publisher.next_number)
        self._waking.begin()
        self._tasks = [
            self._spawn(self._steps_forever(), "steps"),
            self._spawn(self._report_forever(), "status"),
        ]
        if self._proof is not None:
            self._tasks.append(self._spawn(self._proof.run(), "proofs"))

    async def drain(self) -> None:
        """Finish the step that is being published, then let go of the venue."""
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks[:1])
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions:
            await subscription.stop()
        await self._market.close()

    def _make_ticks(self, instruments: tuple[Instrument, ...]) -> Ticks:
        states = self._guard.states
        return Ticks(
            self._bus,
            self._venue,
            {one.symbol: begun_anew(states.get(one.symbol, QualityState())) for one in instruments},
            self._config.limits,
            now_ns=self._now_ns,
            book_interval_s=self._config.book_interval_ms / 1_000,
            on_freeze=self._guard.freeze,
            on_venue_bar=self._bars.on_venue_bar,
            on_instrument=self._on_instrument,
            metrics=self._metrics,
            log=self._log,
        )

    def _make_proof(self) -> Proof:
        return Proof(
            self._market,
            self._stack.assets,
            known_ns=lambda: self._waking.known_ns(self._ticks),
            # Prices of two bars ago are stale for risk: a short bar is rather called unproven than late.
            timeout_s=min(self._config.candles_timeout_s, self._interval_ns / NANOSECONDS_PER_SECOND / 2),
            on_lost=self._ticks.on_lost,
            metrics=self._metrics,
            log=self._log,
        )

    def _make_builder(self) -> StepBuilder:
        """Begin with the interval that runs now; what of it was not seen must come from the venue's lists."""
        now_ns, last = self._now_ns(), self._publisher.last
        first_ns = now_ns // self._interval_ns * self._interval_ns + self._interval_ns
        if last is not None:
            first_ns = max(first_ns, last.close_time_ns + self._interval_ns)
        elif not self._bars.is_possible and self._proof is None:
            first_ns += self._interval_ns
        return StepBuilder(
            self._stack.assets,
            self._interval_ns,
            first_close_ns=first_ns,
            grace_ns=self._config.bar_grace_ms * NANOSECONDS_PER_MILLISECOND,
            seen_from_ns=now_ns,
        )

    async def _steps_forever(self) -> None:
        if self._publisher.last is None and self._ticks.untradable:
            await self._until_tradable()
        await self._catch_up()
        while not self._is_stopping:
            now_ns = self._waking.look(self._ticks)
            if not self._waking.is_awake:
                await self._after_pause()
                continue
            if self._builder.is_due(now_ns):
                if self._proof is not None:
                    await self._proof.prove(self._builder.next_close_ns)
                await self._finish(self._builder.close())
                continue
            left_s = (self._builder.next_close_ns - now_ns) / NANOSECONDS_PER_SECOND
            await asyncio.sleep(max(LOOK_S, min(left_s, LOOK_MAX_S)))

    async def _until_tradable(self) -> None:
        """Wait for the books before the very first step: who decides on it orders at once, and would be refused."""
        now_ns, left_s = self._waking.look(self._ticks), FIRST_STEP_PATIENCE_S
        while (waiting := self._ticks.untradable) and not self._is_stopping:
            if left_s <= 0:
                self._log.warning("first_step_not_tradable", markets=waiting)
                break
            await asyncio.sleep(LOOK_S)
            since_ns, now_ns = now_ns, self._waking.look(self._ticks)
            left_s -= (now_ns - since_ns) / NANOSECONDS_PER_SECOND
            if not self._waking.is_awake:
                now_ns, left_s = await self._waking.wake(self._ticks, self._must_stop), FIRST_STEP_PATIENCE_S
        self._builder.skip_to(now_ns)
        self._send_status()

    async def _after_pause(self) -> None:
        """Go on with the step that runs now; the ones that were slept through are the venue's candles."""
        # Before a step that somebody could order on.
        self._send_status()
        now_ns = await self._waking.wake(self._ticks, self._must_stop)
        if not self._is_stopping:
            self._builder.skip_to(now_ns)
            await self._catch_up()

    def _must_stop(self) -> bool:
        return self._is_stopping

    async def _catch_up(self) -> None:
        last = self._publisher.last
        if last is None:
            return
        first_ns, end_ns = last.close_time_ns + self._interval_ns, self._builder.next_close_ns
        oldest_ns = end_ns - self._config.catch_up_steps_max * self._interval_ns
        if first_ns < oldest_ns:
            skipped = (oldest_ns - first_ns) // self._interval_ns
            self._skipped.inc(skipped)
            self._log.error("steps_skipped", steps=skipped, first=utc_text(first_ns), last=utc_text(oldest_ns))
            first_ns = oldest_ns
        if first_ns >= end_ns:
            return
        open_ns = first_ns - self._interval_ns
        found = await self._bars.fetch(self._stack.assets, open_ns, end_ns - self._interval_ns)
        self._log.warning("steps_missed", steps=(end_ns - first_ns) // self._interval_ns, found=len(found))
        for close_ns in range(first_ns, end_ns, self._interval_ns):
            bars = {name: bar for name, kept in found.items() if (bar := kept.get(close_ns)) is not None}
            await self._publish(close_ns, bars)
            if self._is_stopping:
                return

    async def _finish(self, draft: Draft) -> None:
        open_ns, close_ns, bars = draft.open_time_ns, draft.close_time_ns, dict(draft.bars)
        doubts: dict[str, str] = {}
        if self._proof is not None:
            doubts = self._proof.doubts(open_ns, close_ns)
            self._bars.repaired.inc(len(bars.keys() & set(self._proof.mended(open_ns, close_ns))))
        if draft.gaps:
            self._log.warning("bars_with_gaps", close_time_ns=close_ns, gaps=draft.gaps)
        unproven: dict[str, str] = {}
        if asked := tuple(dict.fromkeys((*draft.gaps, *doubts))):
            found = await self._bars.fetch(asked, open_ns, close_ns, is_newest=True)
            for name in asked:
                own, theirs = bars.get(name), found[name].get(close_ns) if name in found else None
                if theirs is not None and (own is None or theirs.volume >= own.volume):
                    bars[name] = theirs
                    self._bars.repaired.inc(own is None or is_other(name, own, theirs))
                elif own is not None:
                    # The candle is not there, or is older than what we heard: ours stands, and is called what it is.
                    unproven[name] = doubts[name]
        for name, reason in unproven.items():
            self._unproven_bars.inc()
            self._log.warning("bar_unproven", instrument=name, close_time_ns=close_ns, reason=reason)
            state, text = self._ticks.trust(name).state, _unproven_text(close_ns, reason)
            self._announcer.send(name, state, text, self._now_ns())
        self._unproven = {name: _unproven_text(close_ns, reason) for name, reason in unproven.items()}
        candles = await self._publish(close_ns, bars)
        for candle in candles:
            if candle.instrument not in draft.gaps:
                self._bars.keep(candle, close_ns)

    def _note_late(self) -> None:
        """Name the markets of which trades came after their bar was out."""
        for name, late in self._builder.late_trades.items():
            if (more := late - self._late.get(name, 0)) > 0:
                self._unproven[name] = f"{more} trades came after their bar was published"
                self._unproven_bars.inc()
                self._log.warning("trades_late", instrument=name, trades=more)
            self._late[name] = late

    async def _publish(self, close_ns: int, bars: dict[str, ClosedBar]) -> tuple[Candle, ...]:
        """Publish one step for as long as it takes; returns the candles that are in it."""
        # What was published before a crash stands: the venue's candle of it may differ in the last digit.
        candles = {name: candle_of(name, bar) for name, bar in bars.items()} | self._publisher.begun(close_ns)
        names = self._stack.assets
        step = MarketStep(
            number=self._publisher.next_number,
            open_time_ns=close_ns - self._interval_ns,
            close_time_ns=close_ns,
            candles=tuple(candles[name] for name in names if name in candles),
            missing=tuple(name for name in names if name not in candles),
            final=False,
        )
        delay_s = RETRY_S
        while True:
            try:
                if self._is_redefined:
                    self._is_redefined = False
                    await self._redefine()
                screened = await self._guard.screen(step)
                await self._publisher.publish(screened)
                break
            except BusUnavailableError as error:
                self._log.warning("publish_retried", step=step.number, error=str(error))
            if self._is_stopping:
                return ()
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, RETRY_MAX_S)
        for name, reason in self._guard.frozen.items():
            self._ticks.freeze(name, reason)
        self._steps.inc()
        self._missing.inc(len(screened.missing))
        self._last_close.set(close_ns / NANOSECONDS_PER_SECOND)
        self._late_s.set((self._now_ns() - close_ns) / NANOSECONDS_PER_SECOND)
        return screened.candles

    def _on_instrument(self, instrument: Instrument) -> None:
        kept = (instrument if one.symbol == instrument.symbol else one for one in self._feed.instruments)
        self._feed = msgspec.structs.replace(self._feed, instruments=tuple(kept))
        self._is_redefined = True
        self._log.warning("grid_changed", instrument=instrument.symbol, tick_size=str(instrument.tick_size))

    async def _redefine(self) -> None:
        """Announce grids that have changed; again with the next step when that fails."""
        try:
            await self._publisher.redefine(self._feed)
        except BusUnavailableError:
            self._is_redefined = True
            raise

    async def _release(self, instrument: str) -> bool:
        is_released = await self._guard.release(instrument)
        if is_released:
            self._ticks.release(instrument)
            self._send_status()
        return is_released

    async def _report_forever(self) -> None:
        while True:
            self._waking.look(self._ticks)
            self._note_late()
            self._send_status()
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _send_status(self) -> None:
        report, markets = self.report, [one.symbol for one in self._feed.instruments]
        self._announcer.send_all(report, markets, self._ticks.trust, self._now_ns())
        if self._on_detail is not None:
            self._on_detail(f"{report.feed}: {report.reason}")

    def _now_ns(self) -> int:
        """Return the venue's time."""
        return self._wall_ns() + self._market.clock_offset_ns()


def _unproven_text(close_ns: int, reason: str) -> str:
    return f"the bar until {utc_text(close_ns)} is not proven: {reason}"
