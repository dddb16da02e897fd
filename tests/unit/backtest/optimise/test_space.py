"""What a search may vary, and the windows that it is judged on."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.backtest.optimise.space import as_values, grid, grid_size, random_points, read_space
from services.backtest.optimise.splits import Objective, folds, score
from shared.domain import performance
from shared.errors import ConfigError


def test_a_range_holds_both_ends_exactly() -> None:
    (found,) = read_space(["upside_threshold=0.1:0.3:0.1"])
    assert found.values == ("0.1", "0.2", "0.3")
    (found,) = read_space(["cooldown_minutes=0:100:30"])
    assert found.values == ("0", "30", "60", "90")


def test_words_are_kept_in_order_and_once() -> None:
    (found,) = read_space(["trigger=cascade, calendar,cascade"])
    assert found.values == ("cascade", "calendar")


def test_without_a_word_the_thresholds_and_the_sales_are_varied() -> None:
    assert [one.key for one in read_space([])] == ["upside_threshold", "downside_threshold", "sell_percentage"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upside_threshold", "write key=low:high:step"),
        ("upside=0.1:0.2:0.1", "no rule that can be varied"),
        ("assets=A,B", "no rule that can be varied"),
        ("upside_threshold=0.1:0.2", "low:high:step"),
        ("upside_threshold=a:b:c", "must be numbers"),
        ("upside_threshold=0.3:0.1:0.1", "low must not be above high"),
        ("upside_threshold=0.1:0.3:0", "step must be above 0"),
        ("upside_threshold=0.1:NaN:0.1", "low must not be above"),
        ("upside_threshold=0.1:0.9:0.0001", "too many"),
        ("downside_threshold=0.5:1.5:0.5", "downside_threshold must be"),
        ("trigger=cascade,sometimes", "sometimes"),
        ("trigger=,", "at least one value"),
    ],
)
def test_what_cannot_be_varied_is_refused_with_the_fix(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_space([text])


def test_a_rule_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        read_space(["upside_threshold=0.1,0.2", "upside_threshold=0.3,0.4"])


def test_the_grid_has_every_point_once() -> None:
    space = read_space(["upside_threshold=0.1:0.3:0.1", "trigger=cascade,calendar"])
    points = list(grid(space))
    assert len(points) == len(set(points)) == grid_size(space) == 6
    assert as_values(space, points[1]) == {"upside_threshold": "0.1", "trigger": "calendar"}


def test_random_points_differ_lie_on_the_grid_and_follow_the_seed() -> None:
    space = read_space([])
    points = random_points(space, 50, seed=4)
    assert len(set(points)) == 50
    assert set(points) <= set(grid(space))
    assert points == random_points(space, 50, seed=4)
    assert points != random_points(space, 50, seed=5)
    assert len(random_points(space, 10_000, seed=4)) == grid_size(space)


@given(st.integers(10, 2000), st.integers(1, 12), st.integers(0, 20), st.booleans())
def test_validation_follows_training_and_never_overlaps(days: int, count: int, embargo: int, rolling: bool) -> None:
    try:
        found = folds(days, count, embargo=embargo, is_rolling=rolling)
    except ConfigError:
        return
    assert len(found) == count
    assert found[-1].validate[1] == days
    for fold in found:
        assert 0 <= fold.train[0] < fold.train[1]
        assert fold.train[1] + embargo == fold.validate[0] < fold.validate[1] <= days
    for one, after in pairwise(found):
        assert one.validate[1] + embargo == after.validate[0]
    lengths = {fold.train[1] - fold.train[0] for fold in found}
    assert len(lengths) == 1 or not rolling


@pytest.mark.parametrize(("days", "count", "embargo"), [(20, 4, 1), (100, 4, 16), (100, 0, 1), (100, 4, -1)])
def test_too_little_for_the_windows_is_refused(days: int, count: int, embargo: int) -> None:
    with pytest.raises(ConfigError):
        folds(days, count, embargo=embargo)


def test_scores_are_the_figures_of_the_window() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.02, 60)
    assert score(returns, Objective.SHARPE, 365) == performance.sharpe(returns)
    assert score(returns, Objective.RETURN, 365) == performance.total_return(returns)
    assert score(np.zeros(10), Objective.SHARPE, 365) is None
