"""Bars per second of the indicators, against TA-Lib and pandas in the same run where they are installed.

Run: python -m tests.benchmarks.indicators [bars]. "compiled" needs Numba; TA-Lib's stream handles are timed as well.
Each figure is the best of five; compiling is timed apart. "differs" is the greatest distance from TA-Lib's values,
relative to them, over the second half, where the ways to begin no longer matter.
"""

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from shared.domain.indicators import (
    Array,
    Indicator,
    atr,
    bollinger,
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
from shared.domain.indicators import indicator as module

STREAM_BARS = 20_000
EVERY = (
    sma(20),
    ema(20),
    rsi(14),
    macd(),
    bollinger(20),
    atr(14),
    donchian(20),
    standard_deviation(20),
    z_score(20),
    realised_volatility(20),
    ewma_volatility(0.94),
    imbalance(),
)
TALIB: Mapping[str, Callable[[ModuleType, list[Array]], object]] = {
    "sma": lambda lib, given: lib.SMA(given[0], 20),
    "ema": lambda lib, given: lib.EMA(given[0], 20),
    "rsi": lambda lib, given: lib.RSI(given[0], 14),
    "macd": lambda lib, given: lib.MACD(given[0], 12, 26, 9),
    "bollinger": lambda lib, given: lib.BBANDS(given[0], 20, 2.0, 2.0)[1],
    "atr": lambda lib, given: lib.ATR(given[0], given[1], given[2], 14),
    "donchian": lambda lib, given: (lib.MAX(given[0], 20) + lib.MIN(given[1], 20)) / 2.0,
    "standard_deviation": lambda lib, given: lib.STDDEV(given[0], 20),
}
PANDAS: Mapping[str, Callable[[ModuleType, list[Array]], object]] = {
    "sma": lambda lib, given: lib.Series(given[0]).rolling(20).mean(),
    "ema": lambda lib, given: lib.Series(given[0]).ewm(span=20, adjust=False).mean(),
    "bollinger": lambda lib, given: _bands(lib, given[0]),
    "donchian": lambda lib, given: lib.Series(given[0]).rolling(20).max() + lib.Series(given[1]).rolling(20).min(),
    "standard_deviation": lambda lib, given: lib.Series(given[0]).rolling(20).std(ddof=0),
    "z_score": lambda lib, given: _bands(lib, given[0]),
}


def market(bars: int) -> dict[str, Array]:
    """Return a random walk's columns by input name."""
    draw = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(draw.normal(0.0, 0.002, bars)))
    high, low = close * np.exp(np.abs(draw.normal(0.0, 0.001, (2, bars))) * np.array([[1.0], [-1.0]]))
    sizes = draw.exponential(5.0, (2, bars))
    return {
        "value": close,
        "price": close,
        "close": close,
        "high": high,
        "low": low,
        "bid_quantity": sizes[0],
        "ask_quantity": sizes[1],
    }


def best_s(run: Callable[[], object]) -> float:
    """Return the least of five durations, in processor time: others on the machine count less."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def stream_us(indicator: Indicator, columns: list[Array]) -> float:
    """Return microseconds for one value of a stream."""
    rows = list(zip(*(column[:STREAM_BARS].tolist() for column in columns), strict=True))

    def run() -> None:
        update = indicator.stream().update
        for row in rows:
            update(*row)

    return best_s(run) / len(rows) * 1e6


def interpreted_rate(indicator: Indicator, columns: list[Array]) -> float:
    """Return bars/s of the batch as plain Python; called before anything is compiled."""
    few = [column[: module.BARS_TO_COMPILE - 1] for column in columns]
    return few[0].size / best_s(lambda: indicator.batch_all(*few))


def optional(name: str) -> ModuleType | None:
    """Return the module if it is installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def line(indicator: Indicator, columns: list[Array], talib: ModuleType | None, pandas: ModuleType | None) -> str:
    """Measure one indicator and return its row."""
    bars = columns[0].size
    cells = [f"{stream_us(indicator, columns):.2f}", _million(interpreted_rate(indicator, columns))]
    start = time.perf_counter()
    can_compile = indicator.compile()
    indicator.batch_all(*(column[:100] for column in columns))
    compile_s = time.perf_counter() - start
    own = bars / best_s(lambda: indicator.batch_all(*columns)) if can_compile else None
    cells += [_million(own), f"{compile_s:.2f}" if can_compile else "-"]
    peer, distance = None, "-"
    if talib is not None and indicator.name in TALIB:
        call = TALIB[indicator.name]
        peer = bars / best_s(lambda: call(talib, columns))
        theirs = call(talib, columns)
        theirs = theirs[0] if isinstance(theirs, tuple) else theirs
        half = slice(bars // 2, None)
        away = np.abs(indicator.batch(*columns)[half] - np.asarray(theirs)[half])
        distance = f"{np.max(away) / np.max(np.abs(np.asarray(theirs)[half])):.0e}"
    cells += [_million(peer), f"{own / peer:.2f}" if own and peer else "-", distance]
    other = None
    if pandas is not None and indicator.name in PANDAS:
        frame = PANDAS[indicator.name]
        other = bars / best_s(lambda: frame(pandas, columns))
    cells += [_million(other), f"{own / other:.1f}" if own and other else "-"]
    return f"{indicator.name:<20}" + "".join(f"{cell:>13}" for cell in cells)


def _bands(lib: ModuleType, values: Array) -> object:
    window = lib.Series(values).rolling(20)
    return window.mean() + 2.0 * window.std(ddof=0)


def _million(rate: float | None) -> str:
    return "-" if rate is None else f"{rate / 1e6:.2f}"


def main() -> None:
    """Print the table; rates are million bars a second."""
    bars = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    given, talib, pandas = market(bars), optional("talib"), optional("pandas")
    titles = ("stream us", "plain M/s", "compiled M/s", "compile s", "TA-Lib M/s", "x TA-Lib", "differs", "pandas M/s")
    rows = [f"{bars} bars".ljust(20) + "".join(f"{title:>13}" for title in (*titles, "x pandas"))]
    rows += [line(one, [given[name] for name in one.inputs], talib, pandas) for one in EVERY]
    rows += [f"not installed: {name}" for name in ("numba", "talib", "pandas") if optional(name) is None]
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
