"""One trial, and many of them on several cores or on a Ray cluster.

In: a market as arrays, settings. Out: the trial's figures and daily returns, the same wherever it ran. Never: a trial
left out: what the rules refuse becomes a trial that says why.
"""

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from services.backtest.config import BacktestSettings, check_capital
from services.backtest.core.outcome import DAY_NS
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_engine import run_scanning
from services.backtest.core.scan_figures import Summariser
from services.backtest.core.scan_market import MarketArrays
from services.backtest.core.scan_run import ScanRun
from services.rebalancer.config import RebalanceConfig
from shared.config import timeframe_ns
from shared.domain import performance
from shared.domain.performance import Series
from shared.errors import ConfigError

# A cluster that adds machines first may take minutes; one that lost the trial would take for ever.
RAY_TRIAL_S = 1_800.0


class Trial(msgspec.Struct, frozen=True):
    """Hold what one set of rules came to over the whole range; `refused` says why it did not run, else it is empty.

    `returns` are daily (of the bars, where these are longer).
    """

    point: tuple[str, ...]
    returns: tuple[float, ...] = ()
    total_return: float = 0.0
    max_drawdown: float = 0.0
    sharpe: float | None = None
    rebalance_count: int = 0
    fees_paid: float = 0.0
    refused: str = ""


class Job(msgspec.Struct, frozen=True):
    """Ask for a trial: the point of the search, and its rules as texts."""

    point: tuple[str, ...]
    values: dict[str, str]


Evaluate = Callable[[Sequence[Job]], Iterator[Trial]]


class Runner:
    """Run trials over one market; `settings` holds what does not vary."""

    def __init__(self, market: MarketArrays, settings: BacktestSettings) -> None:
        self._market, self._settings = market, settings
        self._timeframe_ns = timeframe_ns(market.timeframe)
        self._summariser = Summariser(market, self._timeframe_ns)

    def run(self, job: Job) -> Trial:
        """Return a trial."""
        settings = self._settings
        fixed = {name: getattr(settings.rebalancer, name) for name in RebalanceConfig.__struct_fields__}
        try:
            rules = msgspec.convert(fixed | job.values, RebalanceConfig, strict=False)
            settings = msgspec.structs.replace(settings, rebalancer=rules)
            check_capital(settings, self._market.instruments)
        except (ValueError, ConfigError) as error:
            return Trial(job.point, refused=str(error))
        config = settings.engine(self._market.timeframe, self._timeframe_ns)
        run = run_scanning(config, Rebalancing(rules), self._market)
        found = self._summariser.figures(run)
        returns = daily_returns(run, float(settings.capital), self._timeframe_ns)
        return Trial(
            point=job.point,
            returns=tuple(returns.tolist()),
            total_return=found.total_return,
            max_drawdown=found.max_drawdown,
            sharpe=found.sharpe,
            rebalance_count=found.rebalance_count,
            fees_paid=float(found.fees_paid),
        )


def day_ends(market: MarketArrays, bar_ns: int) -> Series:
    """Return the rows at which a UTC day ends (or each row, of bars longer than a day), the last row included."""
    period_ns = max(DAY_NS, bar_ns)
    offset_ns = 0 if period_ns == DAY_NS else market.first_open_ns % period_ns
    periods = (market.close_ns - 1 - offset_ns) // period_ns
    found: Series = np.append(np.nonzero(np.diff(periods))[0], len(periods) - 1)
    return found


def daily_returns(run: ScanRun, initial: float, bar_ns: int) -> Series:
    """Return the daily returns of a run, the first from the starting money; a day without a worth keeps the last."""
    curve = np.concatenate(([initial], run.equity()))
    known = np.where(np.isnan(curve), 0, np.arange(len(curve)))
    filled = curve[np.maximum.accumulate(known)]
    ends = day_ends(run.market, bar_ns).astype(np.int64)
    return performance.returns_of(np.concatenate(([initial], filled[ends + 1])))


@contextmanager
def evaluator(
    market: MarketArrays, settings: BacktestSettings, *, processes: int, ray_address: str | None
) -> Iterator[Evaluate]:
    """Return what runs jobs and yields their trials in order: here, on `processes` cores, or on a Ray cluster.

    Raises ConfigError when Ray is asked for and not installed, or does not answer.
    """
    if ray_address is not None:
        with _on_ray(market, settings, ray_address) as evaluate:
            yield evaluate
    elif processes <= 1:
        yield lambda jobs: map(Runner(market, settings).run, jobs)
    else:
        # Forking a process with threads may lock it up for ever; spawning costs a second.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=_prepare, initargs=(market, settings)) as pool:
            yield lambda jobs: pool.map(_run_prepared, jobs)


@contextmanager
def _on_ray(market: MarketArrays, settings: BacktestSettings, address: str) -> Iterator[Evaluate]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--ray needs Ray, which is not installed: pip install ray (the cluster's version), or leave --ray out and "
            "use --processes"
        ) from error
    try:
        ray.init(
            address=None if address == "local" else address,
            include_dashboard=False if address == "local" else None,
            logging_level="ERROR",
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise ConfigError(f"--ray {address}: {error}") from error
    try:
        # The market goes to each machine once, and each of its workers prepares it once.
        shared = ray.put((market, settings))
        task = ray.remote(_run_remote)

        def evaluate(jobs: Sequence[Job]) -> Iterator[Trial]:
            for waiting in [task.remote([shared], shared.hex(), job) for job in jobs]:
                try:
                    yield ray.get(waiting, timeout=RAY_TRIAL_S)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[-1]
                    raise ConfigError(
                        f"--ray {address}: a trial failed there ({reason}): install this version of Cascade on every "
                        "machine of the cluster"
                    ) from error

        yield evaluate
    finally:
        ray.shutdown()


_prepared: list[Runner] = []


def _prepare(market: MarketArrays, settings: BacktestSettings) -> None:
    _prepared[:] = [Runner(market, settings)]


def _run_prepared(job: Job) -> Trial:
    return _prepared[0].run(job)


_remote: dict[str, Runner] = {}


def _run_remote(shared: list[Any], key: str, job: Job) -> Trial:
    if key not in _remote:
        _remote.clear()
        _remote[key] = Runner(*importlib.import_module("ray").get(shared[0]))
    return _remote[key].run(job)
