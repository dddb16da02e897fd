"""Backtests from Python: `BacktestEngine(assets=[...], initial_capital=10000, config=config)`.

In: assets, money, rules, candles. Out: a `BacktestResult`. Never: a run before everything that it needs is checked.
"""

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from services.backtest.config import BacktestSettings, check_capital, risk_for
from services.backtest.core import Engine, FillTiming, Strategy
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_engine import Scanning, is_scannable
from services.backtest.core.scan_kernel import fastest_scan
from services.backtest.core.scan_market import arrays_of
from services.backtest.data import LoadedMarket, Moment, bus_names, open_market
from services.backtest.result import BacktestResult, RunFacts
from services.execution.config import ExecutionConfig
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.errors import ConfigError

# How often a run lets others work and says how far it is.
STEPS_PER_TURN = 64
Progress = Callable[[int, int], None]


class BacktestEngine:
    """Run the rebalancer over recorded candles, exactly as the services would.

    `assets` may leave out the quote (`HANA`). `data` is a CSV or Parquet file, a folder of them, a catalogue's folder,
    or `venue:mexc`, which downloads what the catalogue lacks; without it CASCADE_DATA says where they are.
    `config.fee_rate` is charged unless `execution` names other fees. `fills` is `close` (of the deciding bar, as the
    services fill) or `next_open`. `gaps` is `hold` (a missing bar leaves the last price in force, and no plan is made
    meanwhile) or `refuse`. `interval` is the candles' or a multiple of it, which longer bars are made for.
    Raises ConfigError or InputError, naming the fix, before anything runs.
    """

    def __init__(
        self,
        assets: Sequence[str],
        initial_capital: float | Decimal = 10_000,
        config: RebalanceConfig | None = None,
        *,
        data: Path | str | None = None,
        interval: str | None = None,
        fills: FillTiming | str = FillTiming.CLOSE,
        execution: ExecutionConfig | None = None,
        risk: RiskConfig | None = None,
        gaps: str = "hold",
        quote_asset: str | None = None,
    ) -> None:
        self._names, quote = bus_names(assets, quote_asset)
        rules = config or RebalanceConfig()
        self._data, self._interval, self._gaps = data, interval, gaps
        try:
            rules = msgspec.structs.replace(rules, assets=tuple(self._names)).with_weights_file("config.")
            capital = _money(initial_capital)
            fees = ExecutionConfig(maker_fee_rate=rules.fee_rate, taker_fee_rate=rules.fee_rate)
            self.settings = BacktestSettings(
                capital=capital,
                quote_asset=quote,
                fills=FillTiming(fills),
                rebalancer=rules,
                execution=execution or fees,
                risk=risk or risk_for(rules, capital, RiskConfig(), frozenset()),
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error

    async def run_backtest(
        self, start_date: Moment = None, end_date: Moment = None, *, on_progress: Progress | None = None
    ) -> BacktestResult:
        """Run from `start_date` to `end_date` (UTC; bars that open and close within; None: all) and return the result.

        `on_progress(steps done, steps)` is called now and then.
        """
        market = await open_market(
            self._data,
            self._names,
            self.settings.quote_asset,
            interval=self._interval,
            start=start_date,
            end=end_date,
            gaps=self._gaps,
        )
        return await run_rebalancer(market, self.settings, on_progress=on_progress)


async def run_rebalancer(
    market: LoadedMarket, settings: BacktestSettings, *, full_journal: bool = False, on_progress: Progress | None = None
) -> BacktestResult:
    """Run the rules of `settings` over a loaded market.

    Where the scan knows the rules, bars on which nothing can be done are passed over: the run is the same, sooner.
    """
    check_capital(settings, market.feed.instruments)
    strategy = Rebalancing(settings.rebalancer, full_journal=full_journal)
    if not is_scannable(settings.rebalancer):
        return await run_strategy(market, settings, strategy, on_progress=on_progress)
    _check_strategy(market, strategy)
    arrays = arrays_of(market.feed)
    config = settings.engine(market.timeframe, market.timeframe_ns)
    scanning = Scanning(config, strategy, arrays, scan=fastest_scan(arrays.closes.size))
    for number, done in enumerate(scanning.rows(), start=1):
        if number % STEPS_PER_TURN == 0 or done == len(arrays):
            if on_progress is not None:
                on_progress(done, len(arrays))
            await asyncio.sleep(0)
    run = scanning.finish()
    return BacktestResult(_facts(market, settings, strategy.name), run.full_log(), run)


async def run_strategy[S](
    market: LoadedMarket, settings: BacktestSettings, strategy: Strategy[S], *, on_progress: Progress | None = None
) -> BacktestResult:
    """Run any strategy over a loaded market, bar by bar.

    Raises ConfigError when it wants a market that is not there, or more bars to warm up.
    """
    _check_strategy(market, strategy)
    steps = market.info.steps
    engine = Engine(settings.engine(market.timeframe, market.timeframe_ns), strategy, market.feed)
    for number in range(1, steps + 1):
        step = market.feed.step(number)
        if step is None:
            break
        engine.step(step)
        if number % STEPS_PER_TURN == 0 or number == steps:
            if on_progress is not None:
                on_progress(number, steps)
            await asyncio.sleep(0)
    return BacktestResult(_facts(market, settings, strategy.name), engine.finish())


def _check_strategy[S](market: LoadedMarket, strategy: Strategy[S]) -> None:
    there = {instrument.symbol for instrument in market.feed.instruments}
    for asset in strategy.assets:
        if asset not in there:
            raise ConfigError(f"{strategy.name} wants {asset}, which was not loaded: name it among the assets")
    if market.info.steps <= strategy.warmup_bars:
        raise ConfigError(
            f"{strategy.name} needs {strategy.warmup_bars} bars to warm up, the range has {market.info.steps}: choose "
            "a longer one"
        )


def _facts(market: LoadedMarket, settings: BacktestSettings, strategy: str) -> RunFacts:
    return RunFacts(
        settings=settings,
        strategy=strategy,
        names=market.names,
        instruments=market.feed.instruments,
        timeframe=market.timeframe,
        timeframe_ns=market.timeframe_ns,
        first_open_ns=market.feed.first_open_ns,
        source=market.source or market.feed.description,
        path=market.path,
    )


def _money(amount: float | Decimal) -> Decimal:
    try:
        return amount if isinstance(amount, Decimal) else Decimal(repr(amount))
    except InvalidOperation:
        raise ConfigError(f"initial_capital must be an amount, got {amount!r}: give for example 10000") from None
