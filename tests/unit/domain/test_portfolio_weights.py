"""Weights and position sizes by rules: bounds, known answers, and a solver held to an independent search."""

import itertools
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.portfolio_weights import (
    adjust_position_size,
    calculate_portfolio_weights,
    capped_weights,
    inverse_volatility_scores,
    log_returns,
    minimum_variance_weights,
    shrunk_covariance,
)

D = Decimal
GAINS = st.dictionaries(st.sampled_from("ABCDEF"), st.floats(-1, 1), min_size=1)
EQUITY = {"equity_usdt": D(1000), "free_usdt": D(1000)}


def test_weights_follow_expected_returns_and_losers_get_nothing() -> None:
    weights = calculate_portfolio_weights({"A": 0.03, "B": 0.01, "C": -0.5}, invested=0.8)
    assert weights == pytest.approx({"A": 0.6, "B": 0.2, "C": 0.0})


def test_variances_turn_returns_into_growth_optimal_proportions() -> None:
    weights = calculate_portfolio_weights({"A": 0.02, "B": 0.02}, {"A": 0.01, "B": 0.04})
    assert weights == pytest.approx({"A": 0.8, "B": 0.2})


def test_nothing_that_gains_means_cash() -> None:
    assert calculate_portfolio_weights({"A": -0.1, "B": 0.0}) == {"A": 0.0, "B": 0.0}


def test_cap_gives_the_rest_to_the_others_in_proportion() -> None:
    weights = capped_weights({"A": 10, "B": 2, "C": 1}, weight_max=0.4)
    assert weights == pytest.approx({"A": 0.4, "B": 0.4, "C": 0.2})


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="A: return nan"):
        calculate_portfolio_weights({"A": float("nan")})


@given(GAINS, st.floats(0, 1), st.floats(0.05, 1))
@settings(deadline=None)
def test_weights_stay_in_their_bounds(gains: dict[str, float], invested: float, cap: float) -> None:
    weights = calculate_portfolio_weights(gains, invested=invested, weight_max=cap)
    assert list(weights) == list(gains)
    assert all(0 <= weight <= cap + 1e-12 for weight in weights.values())
    positive = sum(gain > 0 for gain in gains.values())
    assert sum(weights.values()) == pytest.approx(min(invested, positive * cap) if positive else 0, abs=1e-9)


@given(st.lists(st.floats(-0.2, 0.2), min_size=12, max_size=60))
@settings(deadline=None)
def test_minimum_variance_beats_every_corner_and_meets_its_optimality_condition(numbers: list[float]) -> None:
    returns = np.array(numbers[: len(numbers) // 4 * 4]).reshape(-1, 4)
    covariance = shrunk_covariance(returns)
    weights = np.array(minimum_variance_weights(covariance, 0.5))
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert np.all(weights >= 0)
    assert np.all(weights <= 0.5 + 1e-12)
    slope = covariance @ weights
    up, down = slope[weights < 0.5], slope[weights > 0]
    assert down.max() - up.min() <= 1e-9 * max(float(np.trace(covariance)), 1e-12)


def test_minimum_variance_equals_a_search_over_a_grid() -> None:
    covariance = np.array([[4.0, 1.8, 0.2], [1.8, 1.0, 0.1], [0.2, 0.1, 2.0]])
    best = min(
        (np.array([a, b, 100 - a - b]) / 100 for a, b in itertools.product(range(101), repeat=2) if a + b <= 100),
        key=lambda w: float(w @ covariance @ w),
    )
    assert minimum_variance_weights(covariance) == pytest.approx(list(best), abs=0.01)


def test_uncorrelated_minimum_variance_is_inverse_to_variance() -> None:
    assert minimum_variance_weights(np.diag([1.0, 2.0, 4.0])) == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=1e-12)


def test_market_that_stands_still_is_weighted_equally() -> None:
    returns = log_returns([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert minimum_variance_weights(shrunk_covariance(returns)) == [0.5, 0.5]
    assert inverse_volatility_scores(returns) == [1.0, 1.0]


def test_rounding_of_a_still_price_is_no_volatility() -> None:
    # The logarithms of 0.3 x 1000 and of 300 differ in the last place.
    still = [0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3]
    scores = inverse_volatility_scores(log_returns([[price, 1 + step % 2 / 10] for step, price in enumerate(still)]))
    assert scores[0] == scores[1]


def test_shrinkage_keeps_the_total_variance_and_lowers_correlations() -> None:
    common = np.random.default_rng(3).normal(size=(30, 1))
    returns = 0.01 * (common + 0.5 * np.random.default_rng(4).normal(size=(30, 5)))
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / len(returns)
    shrunk = shrunk_covariance(returns)
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))
    share = shrunk[0, 1] / sample[0, 1]
    assert 0 < share < 1
    # The paper's intensity, written out element by element.
    mean = np.trace(sample) / 5
    noise = sum(
        (centred[t, i] * centred[t, j] - sample[i, j]) ** 2 for t in range(30) for i in range(5) for j in range(5)
    )
    distance = sum((sample[i, j] - (mean if i == j else 0)) ** 2 for i in range(5) for j in range(5))
    assert 1 - share == pytest.approx(min(noise / 30**2 / distance, 1))


def test_position_size_is_lowered_by_each_rule_in_turn() -> None:
    assert adjust_position_size(D(100), **EQUITY).size_usdt == 100
    assert adjust_position_size(D(100), **EQUITY, confidence=0.5).size_usdt == 50
    assert adjust_position_size(D(100), **EQUITY, volatility=0.04, volatility_target=0.02).size_usdt == 50
    assert adjust_position_size(D(100), **EQUITY, volatility=0.01, volatility_target=0.02).size_usdt == 100
    assert adjust_position_size(D(100), **EQUITY, drawdown=0.05, drawdown_max=0.2).size_usdt == 75
    assert adjust_position_size(D(100), **EQUITY, drawdown=0.3, drawdown_max=0.2).size_usdt == 0
    assert adjust_position_size(D(500), **EQUITY, held_usdt=D(300), position_limit=D("0.4")).size_usdt == 100
    assert adjust_position_size(D(500), equity_usdt=D(1000), free_usdt=D(300), reserve=D("0.1")).size_usdt == 200
    small = adjust_position_size(D(20), **EQUITY, confidence=0.5, minimum_usdt=D(15))
    assert small.size_usdt == 0
    assert [reason.split()[0] for reason in small.reasons] == ["confidence", "10.00"]


@given(
    st.decimals(0, 10**6, places=2),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.001, 1),
    st.decimals(0, 10**6, places=2),
)
@settings(deadline=None)
def test_position_size_never_exceeds_what_was_asked(
    size: Decimal, confidence: float, drawdown: float, volatility: float, free: Decimal
) -> None:
    found = adjust_position_size(
        size,
        equity_usdt=free * 2,
        free_usdt=free,
        position_limit=D("0.4"),
        reserve=D("0.05"),
        minimum_usdt=D(15),
        volatility=volatility,
        volatility_target=0.02,
        drawdown=drawdown,
        drawdown_max=0.2,
        confidence=confidence,
    )
    assert 0 <= found.size_usdt <= min(size, free)
    assert found.size_usdt == 0 or found.size_usdt >= 15
    assert (found.size_usdt < size) == bool(found.reasons) or size == 0
