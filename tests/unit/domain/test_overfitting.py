"""Deflated Sharpe ratio and probability of overfitting, against published numbers and a plain recomputation."""

from itertools import combinations

import numpy as np
import pytest

from shared.domain.overfitting import (
    Matrix,
    Moments,
    backtest_overfitting,
    deflated_sharpe,
    expected_best_sharpe,
    moments_of,
    parts_for,
    probabilistic_sharpe,
)


def noise(seed: int, rows: int, trials: int) -> Matrix:
    found: Matrix = np.random.default_rng(seed).normal(0, 0.01, (rows, trials))
    return found


def test_the_published_example_of_the_deflated_sharpe_ratio() -> None:
    # Bailey and López de Prado 2014: 100 trials, variance 1/2 a year, 250 days a year, five years.
    found = Moments(sharpe=2.5 / np.sqrt(250), count=1250, skewness=-3.0, kurtosis=10.0)
    assert expected_best_sharpe(0.5 / 250, 100) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(found, 0.5 / 250, 100) == pytest.approx(0.9004, abs=5e-5)


def test_without_skew_and_at_the_benchmark_the_chance_is_even() -> None:
    found = Moments(sharpe=0.1, count=500, skewness=0.0, kurtosis=3.0)
    assert probabilistic_sharpe(found, 0.1) == 0.5
    # (0.1 - 0) x sqrt(499) / sqrt(1 + 0.5 x 0.01) = 2.2283, and the normal distribution there is 0.98707.
    assert probabilistic_sharpe(found, 0.0) == pytest.approx(0.98707, abs=1e-4)


def test_more_trials_deflate_more() -> None:
    found = Moments(sharpe=0.15, count=300, skewness=0.0, kurtosis=3.0)
    chances = [deflated_sharpe(found, 0.003, trials) for trials in (1, 2, 10, 100, 1000)]
    assert chances == sorted(chances, reverse=True)
    assert expected_best_sharpe(0.003, 1) == 0


def test_the_expected_best_is_what_a_simulation_gives() -> None:
    best = np.random.default_rng(1).normal(0, 1, (20_000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(1.0, 50) == pytest.approx(best, rel=0.02)


def test_moments_are_those_of_numbers_worked_out_by_hand() -> None:
    found = moments_of(np.array([1.0, 1.0, 1.0, 5.0]))
    assert found is not None
    # Mean 2, squares 1 1 1 9: variance 3 (12/3 = 4 with ddof 1), cubes -1 -1 -1 27, fourths 1 1 1 81.
    assert found.sharpe == pytest.approx(1.0)
    assert found.skewness == pytest.approx(6 / 3**1.5)
    assert found.kurtosis == pytest.approx(21 / 9)


@pytest.mark.parametrize("returns", [[], [0.1, 0.2], [0.01] * 50])
def test_returns_that_say_nothing_have_no_moments(returns: list[float]) -> None:
    assert moments_of(np.array(returns)) is None


@pytest.mark.parametrize("seed", range(5))
def test_cross_validation_is_what_a_plain_loop_computes(seed: int) -> None:
    returns = noise(seed, 50, 7)
    returns[:, 3] = 0.0
    found = backtest_overfitting(returns, parts=6)
    assert found is not None
    parts = np.split(returns[2:], 6)
    below = losing = 0
    for half in combinations(range(6), 3):
        inside = np.concatenate([parts[index] for index in half])
        outside = np.concatenate([parts[index] for index in range(6) if index not in half])
        first, second = (
            np.array([0.0 if column.std() == 0 else column.mean() / column.std(ddof=1) for column in rows.T])
            for rows in (inside, outside)
        )
        best = int(np.argmax(first))
        below += sorted(second).index(second[best]) + 1 <= 4
        losing += second[best] < 0
    assert found.splits == 20
    assert found.probability == below / 20
    assert found.loss_probability == losing / 20


def test_noise_is_overfitted_half_of_the_time_and_a_true_edge_never() -> None:
    chances = []
    for seed in range(12):
        found = backtest_overfitting(noise(seed, 240, 20), parts=8)
        assert found is not None
        chances.append(found.probability)
    assert np.mean(chances) == pytest.approx(0.5, abs=0.12)
    returns = noise(1, 480, 100)
    returns[:, 42] += 0.004
    found = backtest_overfitting(returns)
    assert found is not None
    assert found.splits == 12_870
    assert found.probability < 0.02


def test_copies_of_one_trial_are_no_better_than_their_median() -> None:
    returns = np.tile(noise(3, 64, 1), (1, 5))
    found = backtest_overfitting(returns, parts=4)
    assert found is not None
    assert found.probability == 1.0


def test_too_little_to_judge_is_not_judged() -> None:
    assert backtest_overfitting(noise(1, 100, 1)) is None
    assert backtest_overfitting(noise(1, 7, 5)) is None
    assert parts_for(7) == 0
    assert parts_for(115) == 16
    with pytest.raises(ValueError, match="even"):
        backtest_overfitting(noise(1, 100, 3), parts=5)
    with pytest.raises(ValueError, match="variance"):
        expected_best_sharpe(-1.0, 5)
