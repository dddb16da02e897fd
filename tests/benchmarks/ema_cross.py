"""An EMA cross with orders: bars a second of the engine, and of NautilusTrader where it is installed.

python tests/benchmarks/ema_cross.py [--bars 25000]                      less than 60 s on two cores

One market of made-up 1m closes, averages of 10 and 20 bars, a market order at each crossing, in memory before any clock
starts. Ours: gate, ledger, order ids, exact money. Theirs: the example strategy in their engine, its analyser off.
Both long only, 1 ETH or an equal part of the money, so orders differ by a few; medians of CPU seconds.
CASCADE_BENCH_NAUTILUS names a Python that has NautilusTrader; without it that is said.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE / "peers")]

import backtest as shared_parts  # noqa: E402 - beside this file, which is no package

from services.backtest.config import BacktestSettings  # noqa: E402
from services.backtest.core import Engine  # noqa: E402
from services.backtest.core.ema_cross import EmaCross  # noqa: E402
from services.backtest.core.scan_market import MarketArrays  # noqa: E402
from services.risk.config import RiskConfig  # noqa: E402

FAST, SLOW, REPEATS = 10, 20, 3


def market_of(bars: int) -> MarketArrays:
    """Return a walk around 2,000 on a grid of cents."""
    made = shared_parts.synthetic(bars, 1, "1m")
    closes = np.round(made.closes * (2_000 / made.closes[0, 0]), 2)
    grid = made.instruments[0]
    cents = type(grid)("ETH-USDT", "ETH", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal(5))
    return MarketArrays(
        instruments=(cents,),
        timeframe="1m",
        open_ns=made.open_ns,
        close_ns=made.close_ns,
        opens=closes,
        highs=closes,
        lows=closes,
        closes=closes,
        volumes=np.full(closes.shape, 1e6),
    )


def ours(market: MarketArrays) -> tuple[float, int]:
    """Return the CPU seconds of one run, and its orders."""
    risk = RiskConfig(position_limit=Decimal(1), orders_per_minute_max=10_000)
    settings = BacktestSettings(risk=risk)
    engine = Engine(settings.engine("1m", 60_000_000_000), EmaCross(("ETH-USDT",), fast=FAST, slow=SLOW), market)
    began = time.process_time()
    log = engine.run()
    return time.process_time() - began, len(log.intents)


def theirs(market: MarketArrays) -> dict | str:
    """Return what the peer said, or why it said nothing."""
    python = os.environ.get("CASCADE_BENCH_NAUTILUS")
    if not python:
        return "skipped; set CASCADE_BENCH_NAUTILUS to a Python that has it"
    with tempfile.TemporaryDirectory() as folder:
        candles = Path(folder) / "candles.npz"
        np.savez(candles, closes=market.closes, close_ns=market.close_ns)
        command = [python, "-W", "ignore", str(HERE / "peers" / "nautilus_ema.py"), str(candles)]
        command += [str(FAST), str(SLOW), str(REPEATS)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return f"skipped, it failed: {done.stderr.strip().splitlines()[-1:]}"
    return json.loads(done.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=25_000)
    market = market_of(parser.parse_args().bars)
    runs = [ours(market) for _ in range(REPEATS)]
    rate = len(market) / statistics.median(seconds for seconds, _ in runs)
    shared_parts.tell(f"EMA {FAST}/{SLOW} cross, {len(market):,} bars of one market")
    shared_parts.tell(f"  {'engine, steps':<26}{rate:>12,.0f} bars/s  {runs[0][1]} orders")
    found = theirs(market)
    if isinstance(found, str):
        shared_parts.tell(f"  NautilusTrader: {found}")
        return
    peer = found["bars"] / statistics.median(found["seconds"])
    shared_parts.tell(f"  {'NautilusTrader ' + found['version']:<26}{peer:>12,.0f} bars/s  {found['orders']} orders")
    shared_parts.tell(f"  ours / theirs {rate / peer:.2f} x")


if __name__ == "__main__":
    main()
