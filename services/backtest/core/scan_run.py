"""A run that passed over quiet history, and what is left to say about the bars that it passed over.

In: what the engine logged at the bars it handled, and where it skipped. Out: worth, rows and journal of every bar, on
request. Never: a decision that `decide` did not make; a row that the step-by-step engine would not have logged.
"""

from collections.abc import Iterator
from decimal import Decimal
from math import isnan

import msgspec
import numpy as np

from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_kernel import Floats, Integers, fill_worth
from services.backtest.core.scan_market import MarketArrays
from services.backtest.core.strategy import Account, StepClosed, StrategyParams
from services.rebalancer import core
from shared.domain.money import add, multiply
from shared.errors import IntegrityError
from shared.messages import DecisionRecord


class Gap(msgspec.Struct, frozen=True):
    """Remember rows `[start, stop)` that were passed over: the state and account before them, and the state after.

    `journal_at` counts the decisions that were logged before them.
    """

    start: int
    stop: int
    before: core.RebalancerState
    after: core.RebalancerState
    account: Account
    journal_at: int


class ScanRun:
    """Hold a run. `log` has rows (times, equity, closes, ...) of the handled steps only, everything else in full."""

    def __init__(
        self,
        log: RunLog,
        market: MarketArrays,
        handled: Integers,
        state: core.RebalancerState,
        fees_quote: Decimal,
        *,
        gaps: tuple[Gap, ...] = (),
        strategy: Rebalancing | None = None,
        params: StrategyParams | None = None,
    ) -> None:
        self.log, self.market, self.handled, self.state, self.fees_quote = log, market, handled, state, fees_quote
        self._gaps, self._strategy, self._params = gaps, strategy, params

    @property
    def passed_over(self) -> int:
        """Return how many bars no exact core has seen."""
        return len(self.market) - len(self.handled)

    def equity(self) -> Floats:
        """Return the worth after every step, shape [bars]; NaN while a holding has no price.

        Exact to the last bit of a float at handled steps, so at every fill and at the end; between them within
        (assets + 4) * 2**-53 of the exact value, relatively.
        """
        log, marks = self.log, self.market.marks
        curve = np.empty(len(self.market))
        for row, start, stop in self._parts():
            exact = log.equity[row]
            curve[start] = np.nan if exact is None else float(exact)
            if stop > start + 1:
                held = np.array([float(one) for one in log.quantities[row]])
                fill_worth(curve, marks, held, float(log.quote[row]), range(start + 1, stop))
        return curve

    def full_log(self) -> RunLog:
        """Return the log with a row for every step, equal to the step-by-step engine's but for the quiet decisions.

        Equity is exact. Takes a few microseconds a bar.
        """
        log, market = self.log, self.market
        closes = [tuple(None if isnan(one) else one for one in row) for row in market.closes.tolist()]
        equity: list[Decimal | None] = []
        quote: list[Decimal] = []
        quantities: list[tuple[Decimal, ...]] = []
        for row, start, stop in self._parts():
            equity.append(log.equity[row])
            held = [(column, one) for column, one in enumerate(log.quantities[row]) if one]
            equity += [_worth(log.quote[row], held, bar) for bar in market.marks[start + 1 : stop].tolist()]
            quote += [log.quote[row]] * (stop - start)
            quantities += [log.quantities[row]] * (stop - start)
        return msgspec.structs.replace(
            log,
            times_ns=market.close_ns.tolist(),
            equity=equity,
            quote=quote,
            closes=closes,
            quantities=quantities,
        )

    def journal(self) -> list[DecisionRecord]:
        """Return every decision, the quiet bars' too: what the step-by-step engine logs, entry by entry.

        The core itself decides on each bar that was passed over; takes about half of what stepping takes. Raises
        IntegrityError when it ends in another state than the scan said.
        """
        found: list[DecisionRecord] = []
        at = 0
        for gap in self._gaps:
            found += self.log.decisions[at : gap.journal_at]
            found += self._quiet(gap)
            at = gap.journal_at
        return found + self.log.decisions[at:]

    def _quiet(self, gap: Gap) -> Iterator[DecisionRecord]:
        strategy, params = self._strategy, self._params
        assert strategy is not None and params is not None
        state = gap.before
        for row in range(gap.start, gap.stop):
            step = self.market.step(row + 1)
            assert step is not None
            bars = {candle.instrument: candle for candle in step.candles}
            event = StepClosed(step.close_time_ns, bars, gap.account)
            state, answer = strategy.decide(state, event, params, step.close_time_ns)
            if answer.record is not None:
                yield answer.record
        if state != gap.after:
            raise IntegrityError(f"the scan passed over rows {gap.start} to {gap.stop}, on which the rules acted")

    def _parts(self) -> Iterator[tuple[int, int, int]]:
        starts = self.handled.tolist()
        yield from zip(range(len(starts)), starts, [*starts[1:], len(self.market)], strict=True)


def _worth(quote: Decimal, held: list[tuple[int, Decimal]], marks: list[float]) -> Decimal | None:
    worth = quote
    for column, quantity in held:
        if isnan(marks[column]):
            return None
        worth = add(worth, multiply(quantity, Decimal(repr(marks[column]))))
    return worth
