"""Many configurations over the same candles: `sweep(market, settings)`, on one core or on several.

In: a market read once (`arrays_of(load_market(...).feed)`), complete settings for each run. Out: one row of figures for
each, in the same order, the same on one core and on many. Never: candles that are read or checked twice.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from services.backtest.config import BacktestSettings
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_engine import run_scanning
from services.backtest.core.scan_figures import Summariser, SweepFigures
from services.backtest.core.scan_kernel import Scan
from services.backtest.core.scan_market import MarketArrays
from shared.config import timeframe_ns

Progress = Callable[[int, int], None]


def sweep(
    market: MarketArrays,
    settings: Sequence[BacktestSettings],
    *,
    processes: int = 1,
    scan: Scan | None = None,
    on_progress: Progress | None = None,
) -> list[SweepFigures]:
    """Run the rebalancer with each of the settings over one market and return their figures in order.

    `processes` above 1 spreads the runs; each process gets its own copy of the arrays. `on_progress(done, of)` is
    called after every run. The first error of a run ends the sweep.
    """
    rows: list[SweepFigures] = []
    for row in _run_here(market, settings, scan) if processes <= 1 else _run_spread(market, settings, processes, scan):
        rows.append(row)
        if on_progress is not None:
            on_progress(len(rows), len(settings))
    return rows


def _run_here(market: MarketArrays, settings: Sequence[BacktestSettings], scan: Scan | None) -> Iterator[SweepFigures]:
    runner = _Runner(market, scan)
    yield from map(runner.run, settings)


def _run_spread(
    market: MarketArrays, settings: Sequence[BacktestSettings], processes: int, scan: Scan | None
) -> Iterator[SweepFigures]:
    # Forking a process with threads (NumPy's, an event loop's) may lock it up for ever; spawning costs a second.
    context = multiprocessing.get_context("spawn")
    workers = min(processes, len(settings)) or 1
    with ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(market, scan)) as pool:
        yield from pool.map(_run_prepared, settings, chunksize=max(1, len(settings) // (workers * 8)))


class _Runner:
    def __init__(self, market: MarketArrays, scan: Scan | None) -> None:
        self._market, self._scan = market, scan
        self._timeframe_ns = timeframe_ns(market.timeframe)
        self._summariser = Summariser(market, self._timeframe_ns)

    def run(self, settings: BacktestSettings) -> SweepFigures:
        config = settings.engine(self._market.timeframe, self._timeframe_ns)
        run = run_scanning(config, Rebalancing(settings.rebalancer), self._market, scan=self._scan)
        return self._summariser.figures(run)


_prepared: list[_Runner] = []


def _prepare(market: MarketArrays, scan: Scan | None) -> None:
    _prepared[:] = [_Runner(market, scan)]


def _run_prepared(settings: BacktestSettings) -> SweepFigures:
    return _prepared[0].run(settings)
