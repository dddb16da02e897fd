"""Search for rules on past candles, and say how far the finding can be trusted.

In: a market, settings, a space of rules. Out: every trial, the winner, what walk-forward says about the way it was
chosen, and two measures of luck. Never: a winner without these; a different outcome for the same seed, whatever the
number of cores; a trial that is not counted.

Each trial is one run over the whole range. The rules never see the future, so the days of a window are what the same
rules would have done had the range ended with it: windows are cut out of the trial's daily returns.
"""

import importlib.util
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np

from services.backtest.config import BacktestSettings
from services.backtest.core.scan_market import MarketArrays
from services.backtest.optimise.space import (
    GRID_MAX,
    Dimension,
    Point,
    as_values,
    grid,
    grid_size,
    random_points,
)
from services.backtest.optimise.splits import Fold, Objective, folds, score
from services.backtest.optimise.store import Question, TrialStore
from services.backtest.optimise.trial import Evaluate, Job, Trial, day_ends, evaluator
from shared.config import timeframe_ns
from shared.domain.overfitting import Overfitting, backtest_overfitting, deflated_sharpe, moments_of
from shared.domain.performance import DAYS_PER_YEAR, Series
from shared.errors import ConfigError

DAY_NS = 86_400_000_000_000
TRIALS_MAX = 100_000
# Asked for at a time, whatever the number of cores: otherwise that number would change what is asked next.
BATCH = 8
PBO_MAX, DSR_MIN = 0.2, 0.95
# Beyond this the normal approximation behind the deflated ratio says little about a few hundred days.
KURTOSIS_MAX = 20.0
DEFAULT: Point = ()
Progress = Callable[[int, int], None]


class Sampler(StrEnum):
    """Name how points are chosen: guided by the scores so far (needs Optuna), at random, or all of them."""

    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"


class Search(msgspec.Struct, frozen=True):
    """Say what to search, and how. With `tpe` every fold has `trials` of its own, and so has the whole range.

    `embargo_days` are left out between training and validation. Raises ValueError for what cannot be.
    """

    space: tuple[Dimension, ...]
    sampler: Sampler = Sampler.RANDOM
    trials: int = 100
    objective: Objective = Objective.SHARPE
    folds: int = 4
    embargo_days: int = 1
    is_rolling: bool = False
    seed: int = 0
    processes: int = 1
    ray_address: str | None = None
    storage: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= TRIALS_MAX:
            raise ValueError(f"trials must be from 1 to {TRIALS_MAX}, got {self.trials}: 100 is usual")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 4294967295, got {self.seed}")
        if not 1 <= self.processes <= 1024:
            raise ValueError(f"processes must be from 1 to 1024, got {self.processes}: the number of cores is usual")
        if self.sampler is Sampler.GRID and grid_size(self.space) > GRID_MAX:
            raise ValueError(
                f"the grid has {grid_size(self.space)} points (at most {GRID_MAX}): take larger steps, or --sampler tpe"
            )


class FoldResult(msgspec.Struct, frozen=True):
    """Hold what was chosen on a fold's training days, and its scores there and on the days after them.

    `default_score` is that of the rules without the search, on the same validation days. None where undefined.
    """

    fold: Fold
    point: Point
    train_score: float | None
    validate_score: float | None
    default_score: float | None


class Finding(msgspec.Struct, frozen=True):
    """Hold a search's outcome. `trials` are all that ran, best first; those that the rules refuse are the last.

    `out_of_sample` and `out_of_sample_default` score the validation days of all folds in a row, as chosen in each
    and without any search. `deflated_sharpe` is of the winner; None where a measure is undefined.
    """

    search: Search
    trials: tuple[Trial, ...]
    scores: tuple[float | None, ...]
    default: Trial
    default_score: float | None
    folds: tuple[FoldResult, ...]
    out_of_sample: float | None
    out_of_sample_default: float | None
    out_of_sample_return: float | None
    deflated_sharpe: float | None
    overfitting: Overfitting | None
    day_ends_ns: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def best(self) -> Trial:
        """Return the winner over the whole range."""
        return self.trials[0]

    def rules(self, point: Point) -> dict[str, str]:
        """Return a point as rules."""
        return dict(as_values(self.search.space, point))


def optimise(
    market: MarketArrays,
    settings: BacktestSettings,
    search: Search,
    *,
    candles: str,
    on_progress: Progress | None = None,
) -> Finding:
    """Search, and judge the search; `candles` identifies the data (a digest). Raises ConfigError before the first run.

    `on_progress(trials made, trials at most)` is called after every trial.
    """
    bar_ns = timeframe_ns(market.timeframe)
    days = len(day_ends(market, bar_ns))
    windows = folds(days, search.folds, embargo=search.embargo_days, is_rolling=search.is_rolling)
    if search.sampler is Sampler.TPE and importlib.util.find_spec("optuna") is None:
        raise ConfigError("--sampler tpe needs Optuna: install cascade-trader[research], or take random or grid")
    question = Question(
        space=[[one.key, *one.values] for one in search.space],
        settings=msgspec.json.encode(settings).decode(),
        candles=candles,
    )
    store = TrialStore(search.storage, question)
    with evaluator(market, settings, processes=search.processes, ray_address=search.ray_address) as evaluate:
        made = _Made(search, store, evaluate, DAYS_PER_YEAR * DAY_NS / max(DAY_NS, bar_ns), on_progress)
        chosen = made.search(windows, days)
    ends = market.close_ns[day_ends(market, bar_ns).astype(np.int64)]
    return _judged(search, made, windows, chosen, tuple(int(at_ns) for at_ns in ends))


class _Made:
    """The trials of one search: made once each, scored on any window."""

    def __init__(
        self, search: Search, store: TrialStore, evaluate: Evaluate, year: float, on_progress: Progress | None
    ) -> None:
        self._search, self._store, self._evaluate, self._year = search, store, evaluate, year
        self._on_progress = on_progress
        self.points: dict[Point, None] = {}
        self._studies = search.folds + 1 if search.sampler is Sampler.TPE else 1

    def trial(self, point: Point) -> Trial:
        return self._store.trials[point]

    def score(self, point: Point, window: tuple[int, int]) -> float | None:
        trial = self.trial(point)
        if trial.refused:
            return None
        returns: Series = np.array(trial.returns[slice(*window)], dtype=np.float64)
        return score(returns, self._search.objective, self._year)

    def score_of(self, returns: Sequence[float]) -> float | None:
        return score(np.array(returns, dtype=np.float64), self._search.objective, self._year)

    def search(self, windows: Sequence[Fold], days: int) -> list[Point]:
        """Return what is chosen on the training days of each window."""
        search = self._search
        self._make([DEFAULT])
        if search.sampler is not Sampler.TPE:
            count = search.trials
            points = list(grid(search.space)) if search.sampler is Sampler.GRID else None
            self._make(points or random_points(search.space, count, search.seed))
            return [self.best(list(self.points), window.train) for window in windows]
        chosen = [self._guided(window.train) for window in windows]
        self._guided((0, days))
        return chosen

    def best(self, points: Sequence[Point], window: tuple[int, int]) -> Point:
        """Return the point with the highest score, the first of equals; refused and undefined ones last."""
        scores = [(self.score(point, window), point) for point in points]
        known = [(found, point) for found, point in scores if found is not None]
        if not known:
            refused = next((self.trial(point).refused for point in points if self.trial(point).refused), "")
            raise ConfigError(f"no trial has a score: {refused or 'nothing was traded, choose a longer range'}")
        return max(known, key=lambda one: one[0])[1]

    def _guided(self, window: tuple[int, int]) -> Point:
        import optuna  # noqa: PLC0415 - takes a second, and is an extra

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        search = self._search
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed))
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            one.key: optuna.distributions.IntDistribution(0, len(one.values) - 1)
            if _is_ordered(one)
            else optuna.distributions.CategoricalDistribution(range(len(one.values)))
            for one in search.space
        }
        asked: list[Point] = []
        while len(asked) < search.trials:
            batch = [study.ask(distributions) for _ in range(min(BATCH, search.trials - len(asked)))]
            points = [tuple(one.values[trial.params[one.key]] for one in search.space) for trial in batch]
            self._make(points)
            for trial, point in zip(batch, points, strict=True):
                found = self.score(point, window)
                state = optuna.trial.TrialState.FAIL if found is None else None
                study.tell(trial, found, state=state)
            asked += points
        return self.best(asked, window)

    def _make(self, points: Sequence[Point]) -> None:
        new = [point for point in dict.fromkeys(points) if point not in self._store.trials]
        jobs = [Job(point, dict(as_values(self._search.space, point)) if point else {}) for point in new]
        for point in points:
            if point in self._store.trials:
                self._count(point)
        for trial in self._evaluate(jobs) if jobs else ():
            self._store.add(trial)
            self._count(trial.point)

    def _count(self, point: Point) -> None:
        if point:
            self.points.setdefault(point, None)
        if self._on_progress is not None:
            search = self._search
            most = grid_size(search.space)
            if search.sampler is not Sampler.GRID:
                most = min(most, search.trials * self._studies)
            self._on_progress(len(self.points), most)


def _judged(
    search: Search, made: _Made, windows: Sequence[Fold], chosen: Sequence[Point], ends_ns: tuple[int, ...]
) -> Finding:
    whole = (0, len(ends_ns))
    scored = [(made.score(point, whole), made.trial(point)) for point in made.points]
    made.best(list(made.points), whole)
    scored.sort(key=lambda one: (bool(one[1].refused), one[0] is None, -(one[0] or 0.0)))
    rows = [
        FoldResult(
            window,
            point,
            made.score(point, window.train),
            made.score(point, window.validate),
            made.score(DEFAULT, window.validate),
        )
        for window, point in zip(windows, chosen, strict=True)
    ]
    later = [value for row in rows for value in made.trial(row.point).returns[slice(*row.fold.validate)]]
    default = made.trial(DEFAULT)
    plain = [value for row in rows for value in default.returns[slice(*row.fold.validate)]]
    ran = [trial for _, trial in scored if not trial.refused]
    returns = np.array([trial.returns for trial in ran], dtype=np.float64).T
    finding = Finding(
        search=search,
        trials=tuple(trial for _, trial in scored),
        scores=tuple(found for found, _ in scored),
        default=default,
        default_score=made.score(DEFAULT, whole),
        folds=tuple(rows),
        out_of_sample=made.score_of(later),
        out_of_sample_default=made.score_of(plain) if plain else None,
        out_of_sample_return=float(np.prod(1.0 + np.array(later)) - 1.0),
        deflated_sharpe=_deflated(returns),
        overfitting=backtest_overfitting(returns),
        day_ends_ns=ends_ns,
        warnings=(),
    )
    return msgspec.structs.replace(finding, warnings=_warnings(finding, len(ran)))


def _deflated(returns: Series) -> float | None:
    """Return the deflated Sharpe ratio of the first column among all of them."""
    found = [moments_of(column) for column in returns.T]
    best = found[0]
    sharpes = [one.sharpe for one in found if one is not None]
    if best is None or len(sharpes) < 2:
        return None
    return deflated_sharpe(best, float(np.var(sharpes, ddof=1)), returns.shape[1])


def _warnings(found: Finding, ran: int) -> tuple[str, ...]:
    said = []
    luck = found.overfitting
    if luck is None:
        said.append("Too few trials or days to compute the probability of overfitting: trust nothing here.")
    elif luck.probability > PBO_MAX:
        said.append(
            f"The probability of overfitting is {luck.probability:.0%} (at most {PBO_MAX:.0%} is wanted): in so many "
            f"of {luck.splits:,} splits the best of one half was below the median in the other."
        )
    if found.deflated_sharpe is None or found.deflated_sharpe < DSR_MIN:
        chance = "undefined" if found.deflated_sharpe is None else f"{found.deflated_sharpe:.2f}"
        said.append(
            f"The deflated Sharpe ratio is {chance} (at least {DSR_MIN} is wanted): the best of {ran} trials is not "
            "clearly better than the best of as many worthless ones."
        )
    shape = None if found.best.refused else moments_of(np.array(found.best.returns, dtype=np.float64))
    if shape is not None and shape.kurtosis > KURTOSIS_MAX:
        said.append(
            f"Few days made the best trial (kurtosis {shape.kurtosis:.0f}), and its deflated Sharpe ratio is too kind."
        )
    ours, plain = found.out_of_sample, found.out_of_sample_default
    if ours is not None and plain is not None and ours < plain:
        said.append(
            f"On days that it had not seen, the search did worse ({ours:.2f}) than no search at all ({plain:.2f})."
        )
    refused = len(found.trials) - ran
    if refused:
        said.append(f"{refused} trials were refused by the rules, the first: {found.trials[ran].refused}.")
    return tuple(said)


def _is_ordered(dimension: Dimension) -> bool:
    try:
        return [Decimal(value) for value in dimension.values] == sorted(Decimal(value) for value in dimension.values)
    except InvalidOperation:
        return False
