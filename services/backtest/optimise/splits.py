"""Walk-forward: what is chosen on past days is judged on the days after them.

In: daily returns of a whole run, split into windows. Out: scores of windows. Never: a validation day that a training
window has, or one within the embargo after it.
"""

import math
from collections.abc import Callable
from enum import StrEnum

import msgspec

from shared.domain import performance
from shared.domain.performance import Series
from shared.errors import ConfigError

WINDOW_DAYS_MIN = 5


class Objective(StrEnum):
    """Name what is maximised, of the daily returns of a window."""

    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    RETURN = "return"


class Fold(msgspec.Struct, frozen=True):
    """Hold windows of days, each `[start, stop)` by the index of the day."""

    train: tuple[int, int]
    validate: tuple[int, int]


def folds(days: int, count: int, *, embargo: int, is_rolling: bool = False) -> tuple[Fold, ...]:
    """Return `count` folds: training starts at the first day, or (rolling) is as long as the first one's.

    The days are cut into `count` + 1 equal blocks, the first one longer by the rest. The first `embargo` days of each
    block that validates are left out. Raises ConfigError when a window would have fewer than five days.
    """
    if count < 1 or embargo < 0:
        raise ConfigError(f"folds must be at least 1 and the embargo at least 0 days, got {count} and {embargo}")
    size = days // (count + 1)
    if size - embargo < WINDOW_DAYS_MIN:
        raise ConfigError(
            f"{days} days are too few for {count} folds with an embargo of {embargo} days: every window needs "
            f"{WINDOW_DAYS_MIN} days. Give fewer folds, a shorter embargo or a longer range"
        )
    first = days - size * count
    found = []
    for number in range(count):
        stop = first + number * size
        found.append(Fold((stop - first if is_rolling else 0, stop), (stop + embargo, stop + size)))
    return tuple(found)


def score(returns: Series, objective: Objective, periods_per_year: float) -> float | None:
    """Return the score of a window, None where it is undefined (nothing varied, everything was lost)."""
    found = _SCORES[objective](returns, periods_per_year)
    return found if math.isfinite(found) else None


_SCORES: dict[Objective, Callable[[Series, float], float]] = {
    Objective.SHARPE: lambda returns, year: performance.sharpe(returns, periods_per_year=year),
    Objective.SORTINO: lambda returns, year: performance.sortino(returns, periods_per_year=year),
    Objective.CALMAR: lambda returns, year: performance.calmar(returns, periods_per_year=year),
    Objective.RETURN: lambda returns, _: performance.total_return(returns),
}
