import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import performance as p
from shared.testing.data import data_file

MIXED = np.array([np.nan, 1, 10, -4, 2, 3, 2, 1, -10]) / 100
NEGATIVE = np.array([0, -6, -7, -1, -9, -2, -6, -8, -5]) / 100
RETURNS = st.lists(st.floats(-0.5, 1.0), min_size=2, max_size=60).map(np.array)


class Vectors(msgspec.Struct):
    returns_percent: dict[str, list[float | None]]
    max_drawdown: dict[str, float | str]
    annual_return: dict[str, float]
    annual_volatility: dict[str, float]
    calmar: dict[str, float]
    sharpe: dict[str, float | str]
    sortino: dict[str, float | str]
    downside_risk: dict[str, float]
    omega: dict[str, float]


def test_every_published_vector_is_met() -> None:
    vectors = msgspec.json.decode(data_file("oracles/empyrical/vectors.json").read_bytes(), type=Vectors)
    series = {
        name: np.array([math.nan if value is None else value / 100 for value in values])
        for name, values in vectors.returns_percent.items()
    }
    periods = {
        "mixed_daily": ("mixed", 252),
        "weekly": ("weekly", 52),
        "monthly": ("monthly", 12),
        "flat": ("flat", 252),
    }
    for key, (name, year) in periods.items():
        returns = series[name]
        for function, known in (
            (p.annual_return, vectors.annual_return),
            (p.volatility, vectors.annual_volatility),
            (p.calmar, vectors.calmar),
        ):
            if key in known or (function is p.calmar and key == "mixed_daily"):
                expected = known.get(key, known.get("mixed"))
                assert function(returns, periods_per_year=year) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    for name in ("mixed", "positive", "negative"):
        assert p.sharpe(series[name], periods_per_year=252) == pytest.approx(vectors.sharpe[f"{name}_rf0"], rel=1e-8)
    against = p.sharpe(series["mixed"], risk_free=series["benchmark"], periods_per_year=252)
    assert against == pytest.approx(vectors.sharpe["mixed_vs_benchmark"], rel=1e-8)
    for name, year in (("mixed", 252), ("negative", 252), ("weekly", 52), ("monthly", 12)):
        assert p.sortino(series[name], periods_per_year=year) == pytest.approx(vectors.sortino[name], rel=1e-8)
    assert p.downside_risk(series["mixed"], periods_per_year=252) == pytest.approx(vectors.downside_risk["mixed"])
    required = p.downside_risk(series["mixed"], required=0.1, periods_per_year=252)
    assert required == pytest.approx(vectors.downside_risk["mixed_req_0.1"])
    assert p.omega(series["mixed"], threshold=11 ** (1 / 252) - 1) == pytest.approx(vectors.omega["mixed_req10"])
    assert p.omega(series["mixed"], threshold=0.01) == pytest.approx(vectors.omega["mixed_rf_flat"])
    for name in ("mixed", "positive", "benchmark"):
        assert p.max_drawdown(series[name]) == pytest.approx(vectors.max_drawdown[name], abs=1e-12)


def test_known_figures_without_the_published_file() -> None:
    assert p.sharpe(MIXED, periods_per_year=252) == pytest.approx(1.7238613961706866)
    assert p.sortino(NEGATIVE, periods_per_year=252) == pytest.approx(-13.532743075043401)
    assert p.annual_return(MIXED, periods_per_year=252) == pytest.approx(1.9135925373194231)
    assert p.max_drawdown(MIXED) == pytest.approx(-0.1)


def test_undefined_figures_are_undefined_not_zero() -> None:
    empty, single, flat = np.array([]), np.array([0.01]), np.full(9, 0.01)
    assert all(math.isnan(p.sharpe(values)) for values in (empty, single))
    assert p.sharpe(flat) == math.inf
    assert p.sortino(flat) == math.inf
    assert p.defined(math.inf) is None and p.defined(math.nan) is None and p.defined(0.5) == 0.5
    assert p.drawdown([]) is None
    assert p.trade_figures([]).win_rate is None


def test_crypto_annualises_with_365_days() -> None:
    assert p.sharpe(MIXED) / p.sharpe(MIXED, periods_per_year=252) == pytest.approx(math.sqrt(365 / 252))


def test_the_deepest_fall_is_located_with_its_recovery() -> None:
    fall = p.drawdown([100, 120, 90, 110, 119, 121, 60])
    assert fall == p.Drawdown(pytest.approx(60 / 121 - 1), 5, 6, None)
    assert p.drawdown([100, 120, 90, 110, 121]) == p.Drawdown(pytest.approx(-0.25), 1, 2, 4)


def test_expectancy_follows_the_published_example() -> None:
    figures = p.trade_figures([100, 200, 50, -150, 300, -100, 80, -30])
    assert figures.expectancy == pytest.approx(56.25)
    assert figures.expectancy_ratio == pytest.approx(0.60267857)


def test_growth_over_a_year_follows_the_published_example() -> None:
    daily = np.full(365, (176_000 / 64_900) ** (1 / 1_095) - 1)
    assert p.annual_return(daily) == pytest.approx(0.3945, abs=5e-5)


def test_a_curve_that_touches_zero_has_no_returns() -> None:
    with pytest.raises(ValueError, match="positive"):
        p.returns_of([1.0, 0.0, 1.0])


@given(RETURNS)
def test_figures_keep_their_bounds(returns: p.Series) -> None:
    assert -1 <= p.max_drawdown(returns) <= 0
    assert p.expected_shortfall(returns) <= p.value_at_risk(returns) + 1e-12
    assert p.downside_risk(returns) >= 0


@given(RETURNS, st.floats(1.5, 20))
def test_leverage_scales_risk_but_not_sharpe(returns: p.Series, factor: float) -> None:
    base = p.sharpe(returns)
    if math.isfinite(base):
        assert p.sharpe(returns * factor) == pytest.approx(base, rel=1e-6, abs=1e-6)
        assert p.volatility(returns * factor) == pytest.approx(p.volatility(returns) * factor, rel=1e-6)
