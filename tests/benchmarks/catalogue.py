"""How fast the catalogue gives candles to kernels, against pyarrow reading plain Parquet of the same rows.

Run: `.venv/bin/python tests/benchmarks/catalogue.py [months]`. Rates are candles a second, the best of five.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.numbers import parse_numbers
from shared.store.catalogue.read import connect, read_arrays, read_candles, read_exact
from shared.store.catalogue.rows import bars_table
from shared.store.catalogue.verify import check_bars

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000
MINUTES_PER_MONTH = 43_829
COLUMNS = ["open_time_ns", "open", "high", "low", "close", "volume"]


def market(rows: int) -> dict[str, np.ndarray]:
    """Return a random walk with two decimals."""
    random = np.random.default_rng(1)
    close = np.round(60_000 * np.exp(np.cumsum(random.normal(0, 5e-4, rows))), 2)
    opened = np.r_[close[0], close[:-1]]
    high = np.round(np.maximum(opened, close) + random.random(rows) * 10, 2)
    low = np.round(np.minimum(opened, close) - random.random(rows) * 10, 2)
    volume = np.round(random.random(rows) * 20, 5)
    return {"open": opened, "high": high, "low": low, "close": close, "volume": volume}


def best(work: Callable[[], object], times: int = 5) -> float:
    """Return the shortest duration in seconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


def main() -> None:
    """Print the rates."""
    months = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    rows = months * MINUTES_PER_MONTH
    key = SeriesKey("bars", "mexc", "BTC-USDT", "1m")
    times = np.arange(rows, dtype=np.int64) * MINUTE + START
    values = market(rows)
    table = bars_table(key, times, values, {})
    texts = pa.array([repr(value) for value in values["close"][:200_000].tolist()])
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(Path(folder) / "catalogue")
        begin = time.perf_counter()
        catalogue.write(key, table)
        written = time.perf_counter() - begin
        again = best(lambda: catalogue.write(key, table), 2)
        plain = Path(folder) / "plain.parquet"
        pq.write_table(table.select(COLUMNS), plain)
        arrays = best(lambda: read_arrays(catalogue, key))
        peer = best(lambda: [column.to_numpy() for column in pq.read_table(plain).columns])
        few = 200_000
        end_ns = START + few * MINUTE
        exact = best(lambda: list(read_exact(catalogue, key, end_ns=end_ns)), 2)
        replay = best(lambda: read_candles(catalogue, ["BTC-USDT"], "1m", None, end_ns), 2)
        sql = best(
            lambda: (
                connect(catalogue).sql("SELECT instrument, max(high), sum(volume) FROM bars GROUP BY ALL").fetchall()
            )
        )
        checked = best(lambda: list(check_bars(key, times, values)), 2)
        parsed = best(lambda: parse_numbers(texts), 2)
        size = sum(path.stat().st_size for path in catalogue.root.rglob("*.parquet"))
    sys.stdout.write(f"{rows:,} minutes in {months + 1} files, {size / rows:.1f} bytes a candle\n")
    for name, seconds, count in (
        ("read as float arrays", arrays, rows), ("  pyarrow, one plain file", peer, rows),
        ("read as exact decimals", exact, few), ("read as texts for a replay", replay, few),
        ("DuckDB aggregate over the view", sql, rows), ("write, fsync included", written, rows),
        ("write the same again", again, rows), ("verify prices and times", checked, rows),
        ("parse one column of texts", parsed, few),
    ):  # fmt: skip
        sys.stdout.write(f"{name:32} {count / seconds / 1e6:8.2f} million/s\n")


if __name__ == "__main__":
    main()
