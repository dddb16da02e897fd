"""The weights at which each asset is traded: from the live core's own targets and bands, bar by bar.

In: a result, prices and holdings of a step. Out: the lower and upper weight of each asset, None where there is none.
Never: a band by a rule of its own; one of a strategy whose rules are not the rebalancer's.
"""

from collections.abc import Sequence
from decimal import Decimal

from services.backtest.report.draw import Value
from services.backtest.result import BacktestResult
from services.rebalancer.core.drift import drifts_of
from services.rebalancer.core.legs import Frame
from services.rebalancer.core.model import Portfolio, value
from services.rebalancer.core.past import Past, extended
from services.rebalancer.core.targets import targets_for
from services.rebalancer.modes import TriggerMode

# A chart is a few hundred points wide; more bands than these nobody sees.
BANDS_MAX = 2_000

Lines = tuple[tuple[Value, ...], tuple[Value, ...]]


class Bands:
    """Follow a run's steps in order: `see` each of them, then ask for `lines`."""

    def __init__(self, result: BacktestResult) -> None:
        rules, log = result.facts.settings.rebalancer, result.log
        is_own = set(rules.traded) == set(log.assets) and rules.strategy == result.facts.strategy
        self._rules, self._assets = rules, log.assets
        self._is_cascade = is_own and rules.is_cascade
        self._is_banded = is_own and not rules.is_cascade and rules.trigger is not TriggerMode.CALENDAR
        self._stride = max(1, len(log.times_ns) // BANDS_MAX)
        self._past = Past()
        self._none: tuple[Value, ...] = (None,) * len(log.assets)
        self._last: Lines = (self._none, self._none)

    def see(self, closes: Sequence[float | None]) -> None:
        """Take a step's closes, which estimators of target weights may look back on."""
        if self._is_banded:
            there = zip(self._assets, closes, strict=True)
            known = {asset: Decimal(repr(close)) for asset, close in there if close is not None}
            self._past = extended(self._past, known, {}, self._rules)

    def lines(
        self, index: int, prices: Sequence[float | None], held: Sequence[float], quote: float, *, is_plan: bool
    ) -> Lines:
        """Return the weights below and above which each asset is traded, for this portfolio at step `index`."""
        if self._is_cascade:
            return self._cascade(prices, held, quote)
        if self._is_banded and (is_plan or index % self._stride == 0):
            self._last = self._banded(prices, held, quote)
        return self._last

    def _cascade(self, prices: Sequence[float | None], held: Sequence[float], quote: float) -> Lines:
        values = [amount * (price or 0.0) for amount, price in zip(held, prices, strict=True)]
        mean = sum(values) / len(values) / (sum(values) + quote)
        low, high = 1.0 - float(self._rules.downside_threshold), 1.0 + float(self._rules.upside_threshold)
        return (mean * low,) * len(values), (mean * high,) * len(values)

    def _banded(self, prices: Sequence[float | None], held: Sequence[float], quote: float) -> Lines:
        if any(price is None for price in prices):
            return self._none, self._none
        targets = targets_for(self._rules, self._rules.traded, self._past)
        if targets.obstacle:
            return self._none, self._none
        portfolio = Portfolio(
            assets=self._rules.traded,
            prices={asset: Decimal(repr(price)) for asset, price in zip(self._assets, prices, strict=True)},
            quantities={asset: Decimal(repr(amount)) for asset, amount in zip(self._assets, held, strict=True)},
            usdt=Decimal(repr(quote)),
        )
        rows = {
            row.asset: row for row in drifts_of(Frame(portfolio, value(portfolio), self._rules, {}), targets.weights)
        }
        found = [rows[asset] for asset in self._assets]
        edges = [
            None if row.band is None or row.is_locked else (row.target - row.band, row.target + row.band)
            for row in found
        ]
        lower = tuple(None if edge is None else max(0.0, float(edge[0])) for edge in edges)
        return lower, tuple(None if edge is None else float(edge[1]) for edge in edges)
