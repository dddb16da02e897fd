"""The rebalancer's backtest that passes over quiet history: a scan names the bars, the exact engine handles them.

In: a market as arrays, the engine's configuration, the rules. Out: a `ScanRun`: the very plans, orders, fills, ledger
and state of the step-by-step engine. Never: a rule of its own; a bar passed over on which the core acts.

A bar may be passed over while no plan is under way, no order open, and all that the core would do with the account, its
own `settled` has done before: there it can only look. What it would have written into the journal about such a bar
(`none`, and why), `ScanRun.journal` writes on request. The first and the last bar are always handled.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from services.backtest.core.engine import Engine, EngineConfig
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_kernel import GUARD, Floats, Scan, Watch, fastest_scan
from services.backtest.core.scan_market import MarketArrays
from services.backtest.core.scan_run import Gap, ScanRun
from services.backtest.core.strategy import StepClosed
from services.rebalancer import core
from services.rebalancer.config import RebalanceConfig
from shared.matching.exact import decimal_of
from shared.messages import BarsClosed

NANOSECONDS_PER_MINUTE = 60_000_000_000
_NEVER_NS = np.iinfo(np.int64).max
# Quantities beyond these could leave the range in which floats multiply to 16 digits.
_QUANTITY_MIN, _QUANTITY_MAX = Decimal("1e-60"), Decimal("1e60")

# The scan knows when these rules act, whatever their values. All others must have their defaults, which are the plain
# cascade; otherwise every bar is handled.
KNOWN_RULES = frozenset(
    {
        "assets",
        "upside_threshold",
        "downside_threshold",
        "sell_percentage",
        "usdt_reserve",
        "min_order_value",
        "cooldown_minutes",
        "position_limit",
        "usdt_buffer",
        "outperformer_sell_limit",
        "fee_rate",
        "price_collar",
        "intent_lifetime_s",
        "bar_age_max_s",
        "strategy",
        "enabled",
    }
)

_DEFAULTS = RebalanceConfig()


def run_scanning(
    config: EngineConfig, strategy: Rebalancing, market: MarketArrays, *, scan: Scan | None = None
) -> ScanRun:
    """Run the rules over the whole market; errors are those of the step-by-step engine."""
    scanning = Scanning(config, strategy, market, scan=scan)
    for _ in scanning.rows():
        pass
    return scanning.finish()


class Scanning:
    """Run the rules over a market, a bar that matters at a time: exhaust `rows()`, then `finish()`."""

    def __init__(
        self, config: EngineConfig, strategy: Rebalancing, market: MarketArrays, *, scan: Scan | None = None
    ) -> None:
        self._market, self._strategy = market, strategy
        self._engine = _SkippingEngine(config, strategy, market)
        self._watcher = _Watcher(strategy.config, market, scan or fastest_scan())
        self._handled: list[int] = []
        self._gaps: list[Gap] = []

    def rows(self) -> Iterator[int]:
        """Yield how many rows are behind, after each bar that was handled."""
        engine, market = self._engine, self._market
        row, last = 0, len(market) - 1
        while row <= last:
            step = market.step(row + 1)
            assert step is not None
            engine.step(step)
            self._handled.append(row)
            row += 1
            if row < last and self._watcher.knows_rules and (settled := engine.settled(market, row)) is not None:
                found, tried_ns = self._watcher.next_row(settled, engine, row, last)
                if found > row:
                    self._pass_over(settled, row, found, tried_ns)
                    row = found
            yield row

    def finish(self) -> ScanRun:
        """Check that the books balance, and return the run."""
        engine = self._engine
        return ScanRun(
            engine.finish(),
            self._market,
            np.array(self._handled, dtype=np.int64),
            engine.state,
            engine.desk.ledger.fees_quote,
            gaps=tuple(self._gaps),
            strategy=self._strategy,
            params=engine.params,
        )

    def _pass_over(self, settled: core.RebalancerState, start: int, stop: int, tried_ns: dict[str, int]) -> None:
        engine = self._engine
        before, account = engine.state, engine.account()
        engine.skip(self._market, settled, start, stop, tried_ns)
        self._gaps.append(Gap(start, stop, before, engine.state, account, len(engine.log.decisions)))


def is_scannable(rules: RebalanceConfig) -> bool:
    """Tell whether the scan knows every rule that this configuration changes; if not, every bar is handled."""
    others = set(rules.__struct_fields__) - KNOWN_RULES
    return all(getattr(rules, name) == getattr(_DEFAULTS, name) for name in others)


def watch_of(
    rules: RebalanceConfig, quantities: Sequence[Decimal], quote: Decimal, fired_at_ns: Mapping[str, int]
) -> Watch:
    """Return what to look for under these rules; quantities follow the basket's order."""
    cooldown_ns = (rules.cooldown_minutes * NANOSECONDS_PER_MINUTE).__ceil__()
    ready_ns = [min(fired_at_ns[one] + cooldown_ns, _NEVER_NS) if one in fired_at_ns else 0 for one in rules.assets]
    return Watch(
        quantities=np.array([float(one) for one in quantities]),
        ready_ns=np.array(ready_ns, dtype=np.int64),
        upper=float(1 + rules.upside_threshold) * (1 - GUARD),
        lower=float(1 - rules.downside_threshold) * (1 + GUARD),
        limit=float(rules.position_limit) * (1 - GUARD) if rules.position_limit < 1 else np.inf,
        quote=float(quote),
        least=float(rules.min_order_value) * (1 + GUARD),
    )


class _SkippingEngine(Engine[core.RebalancerState]):
    """Be the engine, and be told that nothing happened for a while."""

    def __init__(self, config: EngineConfig, strategy: Rebalancing, market: MarketArrays) -> None:
        super().__init__(config, strategy, market)
        self._rebalancing = strategy
        self._column_of = {instrument.symbol: column for column, instrument in enumerate(market.instruments)}
        self._strategy_assets = tuple(asset for asset in strategy.assets if asset in self._column_of)

    def settled(self, market: MarketArrays, row: int) -> core.RebalancerState | None:
        """Return the state from which bars need only a look, None while `row` may change more than time and closes."""
        if self._state.plan is not None or self._waiting or self._events or self.desk.paper.open_orders():
            return None
        step = market.step(row + 1)
        assert step is not None
        bars = {candle.instrument: candle for candle in step.candles}
        closed = StepClosed(step.close_time_ns, bars, self.account())
        return self._rebalancing.settled(self._state, closed, self.params)

    def quantity(self, asset: str) -> Decimal:
        """Return what is held of a market's base asset."""
        return self.desk.ledger.balance(self._bases[asset])

    def quote(self) -> Decimal:
        """Return the quote money held; with no order open all of it is free."""
        return self.desk.ledger.balance(self._config.quote_asset)

    def skip(
        self, market: MarketArrays, settled: core.RebalancerState, start: int, stop: int, tried_ns: dict[str, int]
    ) -> None:
        """Be where the rows `[start, stop)` would have led, on none of which anything was ordered.

        Desk and gate keep the newest bar of each market, unless the next one to be handled has bars of all; the
        strategy keeps closes, how far it has come, and when assets fired in vain.
        """
        newest = market.newest_rows(stop - 1)
        closes = dict(settled.closes)
        for asset in self._strategy_assets:
            column = self._column_of[asset]
            if newest[column] >= start:
                closes[asset] = decimal_of(float(market.closes[newest[column], column]))
        if not market.is_whole(stop):
            self._close_bars(market, newest, start)
        close_ns = int(market.close_ns[stop - 1])
        closed = BarsClosed(
            venue=self._config.venue,
            timeframe=self._config.timeframe,
            close_time_ns=close_ns,
            instruments=(),
            missing=(),
            step=stop,
            final=False,
        )
        self.desk.on_bars_closed(closed)
        self._gate.market.on_closed(closed)
        self._steps += stop - start
        self._now_ns = close_ns
        self._state = msgspec.structs.replace(
            settled,
            last_close_ns=close_ns,
            finished_ns=close_ns,
            closes=closes,
            fired_at_ns=settled.fired_at_ns | tried_ns,
            ledger_sequence_seen=max(settled.ledger_sequence_seen, self.desk.ledger.sequence),
        )

    def _close_bars(self, market: MarketArrays, newest: list[int], start: int) -> None:
        for row in sorted({one for one in newest if one >= start}):
            step = market.step(row + 1)
            assert step is not None
            for candle in step.candles:
                if newest[self._column_of[candle.instrument]] == row:
                    self._close_bar(candle, step)


class _Watcher:
    """Ask the scan for the next bar that matters, with one configuration's limits."""

    def __init__(self, rules: RebalanceConfig, market: MarketArrays, scan: Scan) -> None:
        self._market, self._scan, self._assets = market, scan, rules.assets
        self.knows_rules = is_scannable(rules)
        self._columns = market.columns(rules.assets) if self.knows_rules else None
        self._is_idle_for_ever = not rules.enabled or not rules.assets or (self.knows_rules and self._columns is None)
        self._rules, self._has_cooldown = rules, rules.cooldown_minutes > 0
        self._surely_up = float(1 + rules.upside_threshold) * (1 + GUARD)
        self._surely_down = float(1 - rules.downside_threshold) * (1 - GUARD)
        self._sell_share = float(rules.sell_percentage) * (1 + GUARD)
        self._least_surely = float(rules.min_order_value) * (1 - GUARD)

    def next_row(
        self, state: core.RebalancerState, engine: _SkippingEngine, start: int, stop: int
    ) -> tuple[int, dict[str, int]]:
        """Return the first row in `[start, stop)` that may matter, or `stop`, and when assets fired in vain before."""
        stop = min(stop, self._next_doubtful(start))
        if self._is_idle_for_ever:
            return stop, {}
        quantities = [engine.quantity(asset) for asset in self._assets]
        if any(one and not _QUANTITY_MIN <= one <= _QUANTITY_MAX for one in quantities):
            return start, {}
        assert self._columns is not None
        times_ns, tried_ns = self._market.close_ns, dict[str, int]()
        watch = watch_of(self._rules, quantities, engine.quote(), state.fired_at_ns)
        row = self._scan(self._columns, times_ns, watch, start, stop)
        while row < stop and (vain := self._fires_in_vain(self._columns.closes[row], int(times_ns[row]), watch)):
            tried_ns |= dict.fromkeys((self._assets[one] for one in vain), int(times_ns[row]))
            watch = watch_of(self._rules, quantities, engine.quote(), state.fired_at_ns | tried_ns)
            row = self._scan(self._columns, times_ns, watch, row + 1, stop)
        return row, tried_ns

    def _fires_in_vain(self, closes: Floats, at_ns: int, watch: Watch) -> list[int]:
        """Return the columns that fire for certain though no order can come of it; none when anything else may happen.

        An asset of which too little is held to sell a part, or that lacks too little to buy, fires and cools down, and
        does so again and again. Every ready asset that is beyond its band has its turn within the same bar.
        """
        values = closes * watch.quantities
        total, count = float(values.sum()), len(values)
        # A sum just added in another order differs by less than the guard.
        if total <= watch.least * (1 + GUARD):
            return []
        found: list[int] = []
        for column, value in enumerate(values.tolist()):
            size = count * value
            may_limit = value >= watch.limit * (1 - GUARD) * (total + watch.quote)
            is_up, is_down = size >= watch.upper * (1 - GUARD) * total, size <= watch.lower * (1 + GUARD) * total
            if watch.ready_ns[column] > at_ns or not (may_limit or is_up or is_down):
                continue
            is_certain = size > self._surely_up * total or size < self._surely_down * total
            ordered = value * self._sell_share if is_up else total / count * (1 + GUARD) - value
            if may_limit or not is_certain or ordered >= self._least_surely:
                return []
            found.append(column)
        # Without a cooldown the most urgent one has every turn.
        return found if self._has_cooldown or len(found) == 1 else []

    def _next_doubtful(self, start: int) -> int:
        rows = self._market.doubtful
        found = int(np.searchsorted(rows, start))
        return int(rows[found]) if found < rows.size else len(self._market)
