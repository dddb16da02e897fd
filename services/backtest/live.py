"""The rebalancer of one exchange: `await LiveRebalancer(exchange, assets, config).run_forever()`.

In: an initialized exchange, rules. Out: over a paper venue, simulated orders in this process as the market goes on; at
a wire, the whole stack as a child process (`wire.py`); a result whenever asked.
Never: an order from this process to a venue at a wire, past risk and the journal; paper state beyond the process.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from services.backtest.config import ACCOUNT, BacktestSettings, check_capital, risk_for
from services.backtest.core import Engine
from services.backtest.core.outcome import Rebalance
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.data import data_path, load_market
from services.backtest.result import BacktestResult, RunFacts
from services.backtest.wire import WireRun
from services.backtest.wire_result import WireRebalance, WireResult
from services.execution.config import ExecutionConfig
from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Feed
from services.market_data.core.synthetic import SyntheticFeed
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import RebalancerState
from services.risk.config import RiskConfig
from shared.config import timeframe_ns
from shared.errors import ConfigError
from shared.exchange import DualExchange

# A fixed beginning: the same seed gives the same market on any day.
SYNTHETIC_START_NS = 1_767_225_600_000_000_000
STEPS_KEPT_MAX = 50_000
OnRebalance = Callable[[Rebalance | WireRebalance], None]


class LiveRebalancer:
    """Rebalance a basket on an exchange, bar by bar; one rebalancer for one exchange.

    `assets` must be among the exchange's initialized symbols. `on_rebalance` is called after each plan.

    At a wire (`mexc`, `binance`) `run_forever` runs the services of `cascade up` as a child process until it is
    stopped: bars of the exchange's `timeframe`, its key and addresses, the journal in `state_dir` (left out:
    `var/live-VENUE`, for a sandbox one directory for each key). `cascade … --state-dir` steers it there, and a later
    run goes on. The exchange's own connections are closed then: the account has one user. Live needs both switches,
    and trades after `cascade resume`. Plans come as `WireRebalance`, the result as `WireResult`.
    Raises ConfigError, naming the fix, before anything runs.
    """

    def __init__(
        self,
        exchange: DualExchange,
        assets: Sequence[str],
        config: RebalanceConfig | None = None,
        *,
        risk: RiskConfig | None = None,
        on_rebalance: OnRebalance = lambda _: None,
        state_dir: str | Path | None = None,
    ) -> None:
        self._names = {exchange.token(asset): asset for asset in assets}
        if len(self._names) < 2:
            raise ConfigError("assets must name at least two markets: one is always its own mean")
        self._exchange, self._on_rebalance = exchange, on_rebalance
        venue = exchange.config
        try:
            rules = msgspec.structs.replace(config or RebalanceConfig(), assets=tuple(self._names))
            self.settings = BacktestSettings(
                capital=venue.initial_capital,
                quote_asset=venue.quote_asset,
                rebalancer=rules,
                execution=ExecutionConfig(
                    half_spread_bps=venue.half_spread_bps,
                    slippage_bps=venue.slippage_bps,
                    maker_fee_rate=venue.fee_rate,
                    taker_fee_rate=venue.fee_rate,
                ),
                risk=risk or risk_for(rules, venue.initial_capital, RiskConfig(), frozenset()),
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._wire: WireRun | None = None
        if not exchange.is_paper:
            place = None if state_dir is None else Path(state_dir)
            self._wire = WireRun(exchange, self.settings.rebalancer, risk, place, on_rebalance)
        exchange.claim(self)
        self._has_run = False
        self._engine: Engine[RebalancerState] | None = None
        self._feed: Feed | None = None
        self._is_stopping = asyncio.Event()

    async def run_forever(self) -> BacktestResult | WireResult | None:
        """Trade until `stop`, cancellation, or the end of a replay; returns the result, None when no bar came.

        At a wire also until the stack ends: ConfigError for what it refuses, UnavailableError when it fails.
        """
        if self._has_run:
            raise ConfigError("this rebalancer has run already: make a new one, on a new exchange")
        if self._wire is not None:
            self._has_run = True
            return await self._wire.run()
        feed = self._feed = self._market()
        check_capital(self.settings, feed.instruments)
        length_ns = timeframe_ns(feed.timeframe)
        settings = msgspec.structs.replace(
            self.settings.engine(feed.timeframe, length_ns), venue=self._exchange.book.venue, account=ACCOUNT
        )
        strategy = Rebalancing(self.settings.rebalancer)
        self._has_run = True
        engine = self._engine = Engine(settings, strategy, feed, paper=self._exchange.book)
        wait_s = _wait_s(self._exchange.config.speed, length_ns)
        number = plans = 0
        while not self._is_stopping.is_set() and (step := feed.step(number := number + 1)) is not None:
            engine.step(step)
            if len(engine.log.plans) > plans:
                plans = len(engine.log.plans)
                self._tell()
            engine.log.forget_steps(STEPS_KEPT_MAX)
            await self._pause(wait_s)
        return self.result()

    def stop(self) -> None:
        """End `run_forever` after the step in hand; at a wire the services drain and their state stays."""
        self._is_stopping.set()
        if self._wire is not None:
            self._wire.stop()

    def result(self) -> BacktestResult | WireResult | None:
        """Return what happened so far, None before the first bar; on paper it checks that the books balance."""
        return self._paper_result() if self._wire is None else self._wire.result()

    def _paper_result(self) -> BacktestResult | None:
        engine, feed = self._engine, self._feed
        if engine is None or feed is None or not engine.log.times_ns:
            return None
        facts = RunFacts(
            settings=self.settings,
            strategy=self.settings.rebalancer.strategy,
            names=self._names,
            instruments=feed.instruments,
            timeframe=feed.timeframe,
            timeframe_ns=timeframe_ns(feed.timeframe),
            first_open_ns=feed.first_open_ns,
            source=feed.description,
        )
        return BacktestResult(facts, engine.finish())

    def _market(self) -> Feed:
        venue = self._exchange.config
        try:
            path: Path | None = data_path(venue.data)
        except ConfigError:
            path = None
        if path is not None:
            return load_market(path, self._names, venue.quote_asset).feed
        made_up = MarketDataConfig(seed=venue.seed).synthetic
        return SyntheticFeed(made_up, tuple(self._names), venue.timeframe, start_ns=SYNTHETIC_START_NS)

    def _tell(self) -> None:
        result = self._paper_result()
        if result is not None:
            self._on_rebalance(result.rebalances[-1])

    async def _pause(self, wait_s: float) -> None:
        if not wait_s:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._is_stopping.wait()
        except TimeoutError:
            return


def _wait_s(speed: float | str, length_ns: int) -> float:
    if isinstance(speed, str) and speed.strip().lower() == "max":
        return 0.0
    try:
        factor = float(speed)
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise ConfigError(f"speed must be a factor of real time above 0, for example 900, or max; got {speed!r}")
    return length_ns / 1_000_000_000 / factor
