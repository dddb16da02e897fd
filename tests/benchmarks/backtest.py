"""Portfolio bars a second of the rebalancer's backtest, against a plain float loop, and a sweep against vectorbt.

python tests/benchmarks/backtest.py [--bars 1000000] [--rules 12]       less than 90 s on two cores

`plain loop` is the baseline: the same rules one bar after the other, over dicts and floats, as one writes it first
(`peers/cascade_plain.py`); `tuned loop` is the fastest plain Python that was found (`peers/cascade_floats.py`). Neither
has grids, a risk gate, a ledger or order ids. `steps` and `scan` are the engine, exact to the last digit,
without and with skip-ahead; a `new market` has no index of its blocks yet, which every later run over it shares.
Candles are in memory before any clock starts, as arrays for the scan and as rows for the loops. Medians of CPU seconds,
but for the two processes; a busy machine still moves them by a third.
CASCADE_BENCH_VECTORBT names a Python that has vectorbt, for the sweep's peer; without it that is said.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
sys.path[:0] = [str(PROJECT), str(PEERS)]

import cascade_floats  # noqa: E402 - the peers' folder is no package
import cascade_plain  # noqa: E402

from services.backtest.config import BacktestSettings  # noqa: E402
from services.backtest.core import Engine  # noqa: E402
from services.backtest.core.rebalancing import Rebalancing  # noqa: E402
from services.backtest.core.scan_engine import run_scanning, watch_of  # noqa: E402
from services.backtest.core.scan_kernel import Watch, columns_of, fastest_scan, numba_scan, numpy_scan  # noqa: E402
from services.backtest.core.scan_market import MarketArrays, arrays_of  # noqa: E402
from services.backtest.core.scan_run import ScanRun  # noqa: E402
from services.backtest.data import bus_names, load_market  # noqa: E402
from services.backtest.sweep import sweep  # noqa: E402
from services.rebalancer.config import RebalanceConfig  # noqa: E402
from shared.config import timeframe_ns  # noqa: E402
from shared.messages import Instrument  # noqa: E402

KNOWN_LOOP = 93_000  # bars a second, published for a plain Python loop of such rules
START_NS = 1_700_000_100_000_000_000
RECORDED = "mexc_spot/mexc_spot_4h.csv.gz"
CAPITAL = 10_000.0


def synthetic(bars: int, assets: int, timeframe: str, seed: int = 5) -> MarketArrays:
    """Return correlated random walks with 90 % volatility a year, on grids of six digits."""
    source, step_ns = np.random.default_rng(seed), timeframe_ns(timeframe)
    sigma = 0.9 * np.sqrt(step_ns / (365 * 86_400e9))
    common = source.normal(0, 1, (bars, 1))
    moves = sigma * (0.7 * common + 0.7 * source.normal(0, 1, (bars, assets))) - sigma * sigma / 2
    first, step = 10.0 ** np.linspace(-1, 3, assets), Decimal("0.00001")
    places = [5 - int(np.floor(np.log10(one))) for one in first]
    raw = first * np.exp(np.cumsum(moves, axis=0))
    closes = np.column_stack([np.round(raw[:, c], places[c]) for c in range(assets)])
    times = START_NS + step_ns * np.arange(bars, dtype=np.int64)
    return MarketArrays(
        instruments=tuple(
            Instrument(f"A{c}-USDT", f"A{c}", "USDT", Decimal(f"1e-{places[c]}"), step, Decimal(0), Decimal(5))
            for c in range(assets)
        ),
        timeframe=timeframe,
        open_ns=times,
        close_ns=times + step_ns,
        opens=closes,
        highs=closes,
        lows=closes,
        closes=closes,
        volumes=np.broadcast_to(np.float64(1e12), closes.shape),
    )  # fmt: skip


def recorded(assets: int | None) -> MarketArrays | None:
    """Return recorded candles of the first `assets` markets (None: all) that have every bar; None without the file."""
    folder = Path(os.environ.get("CASCADE_TEST_DATA") or PROJECT.parent / "shared" / "data")
    path = folder / RECORDED
    if not path.exists():
        return None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        column = next(file).strip().split(",").index("symbol")
        counts = Counter(line.split(",")[column] for line in file)
    complete = [name for name, count in counts.items() if count == max(counts.values())][:assets]
    names, quote = bus_names(complete)
    return arrays_of(load_market(path, names, quote).feed)


def settings_for(market: MarketArrays, upside: str = "0.4", downside: str = "0.35") -> BacktestSettings:
    assets = tuple(instrument.symbol for instrument in market.instruments)
    rules = RebalanceConfig(assets=assets, upside_threshold=Decimal(upside), downside_threshold=Decimal(downside))
    return BacktestSettings(rebalancer=rules)


def floats_of(settings: BacktestSettings) -> tuple[float, ...]:
    """Return the rules as the float loop takes them."""
    r = settings.rebalancer
    numbers = (r.upside_threshold, r.downside_threshold, r.sell_percentage, r.usdt_reserve, r.min_order_value,
               r.cooldown_minutes * 60_000_000_000, r.position_limit, r.usdt_buffer, r.outperformer_sell_limit,
               r.fee_rate)  # fmt: skip
    return tuple(float(number) for number in numbers)


def run_scan(market: MarketArrays, settings: BacktestSettings, *, curve: bool = True) -> ScanRun:
    config = settings.engine(market.timeframe, timeframe_ns(market.timeframe))
    run = run_scanning(config, Rebalancing(settings.rebalancer), market)
    if curve:
        run.equity()
    return run


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median of the CPU seconds, which other work on the machine moves less than the clock's."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def tell(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fresh(market: MarketArrays) -> MarketArrays:
    """Return the same arrays as a market that nobody has looked at."""
    return MarketArrays(
        instruments=market.instruments,
        timeframe=market.timeframe,
        open_ns=market.open_ns,
        close_ns=market.close_ns,
        opens=market.opens,
        highs=market.highs,
        lows=market.lows,
        closes=market.closes,
        volumes=market.volumes,
        quote_volumes=market.quote_volumes,
    )


def compare(name: str, market: MarketArrays, *, repeats: int, steps_max: int) -> None:
    """Print one market's rows; the engine with steps runs over the first `steps_max` bars at most."""
    settings, bars = settings_for(market), len(market)
    rules, names = floats_of(settings), [one.symbol for one in market.instruments]
    rows, times = market.closes.tolist(), market.close_ns.tolist()
    tuned = bars / median_s(lambda: cascade_floats.run(rows, times, CAPITAL, rules), min(repeats, 3))
    curve, rebalances = cascade_floats.run(rows, times, CAPITAL, rules)
    named = [(at_ns, dict(zip(names, row, strict=True))) for at_ns, row in zip(times, rows, strict=True)]
    plain_curve, plain_rebalances = cascade_plain.run(named, CAPITAL, rules)
    loop = bars / median_s(lambda: cascade_plain.run(named, CAPITAL, rules), min(repeats, 3))
    named.clear()
    run = run_scan(market, settings)
    scan = bars / median_s(lambda: run_scan(market, settings), repeats)
    bare = bars / median_s(lambda: run_scan(market, settings, curve=False), repeats)
    new = bars / median_s(lambda: run_scan(fresh(market), settings), repeats)
    config = settings.engine(market.timeframe, timeframe_ns(market.timeframe))
    engine = Engine(config, Rebalancing(settings.rebalancer), market)
    few = min(bars, steps_max)
    began = time.process_time()
    for number in range(1, few + 1):
        engine.step(market.step(number))
    steps = few / (time.process_time() - began)
    tell(f"\n{name}: {bars:,} bars x {len(market.instruments)} assets")
    tell(f"  {'':<26}{'bars/s':>14}{'x plain':>9}{'x tuned':>9}{'x 93k':>9}  rebalances  end")
    for label, rate, text in (
        ("plain loop", loop, f"{plain_rebalances:>8}  {plain_curve[-1]:,.2f}"),
        ("tuned loop", tuned, f"{rebalances:>8}  {curve[-1]:,.2f}"),
        ("engine, steps" + (f", first {few:,}" if few < bars else ""), steps, ""),
        ("engine, scan, new market", new, ""),
        ("engine, scan + curve", scan, f"{len(run.log.plans):>8}  {float(run.log.equity[-1]):,.2f}"),
        ("engine, scan", bare, f"{'':>8}  {len(run.handled):,} bars handled"),
    ):
        ratios = "".join(f"{rate / other:>9.1f}" for other in (loop, tuned, KNOWN_LOOP))
        tell(f"  {label:<26}{rate:>14,.0f}{ratios}  {text}")


def scans(market: MarketArrays) -> None:
    """Print the scans alone: a whole pass without a candidate."""
    watch = quiet_watch(market)
    tell("\nscan alone, nothing found")
    for scan in (numba_scan, numpy_scan) if find_spec("numba") else (numpy_scan,):
        columns = columns_of(market.closes)
        scan(columns, market.close_ns, watch, 0, 10)
        seconds = median_s(lambda scan=scan, columns=columns: scan(columns, market.close_ns, watch, 0, len(market)), 5)
        tell(f"  {scan.__name__:<26}{len(market) / seconds:>14,.0f} bars/s")


def quiet_watch(market: MarketArrays) -> Watch:
    assets = tuple(instrument.symbol for instrument in market.instruments)
    loose = RebalanceConfig(
        assets=assets, upside_threshold=Decimal(9), downside_threshold=Decimal("0.99"), position_limit=Decimal(1)
    )
    held = [Decimal(1_000) / Decimal(repr(one)) for one in market.closes[0].tolist()]
    return watch_of(loose, held, Decimal(1_000), {})


def memory(bars: int) -> None:
    """Print the peak memory of one run in processes of their own."""
    if not Path("/proc/self/status").exists():
        tell("\npeak memory: skipped, it is read from Linux's /proc")
        return
    tell(f"\npeak memory, {bars:,} bars x 4 assets (one process each)")
    for what in ("nothing", "arrays", "scan", "loop"):
        command = [sys.executable, __file__, "--bars", str(bars), "--memory", what]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
        tell(f"  {what:<26}{found:>14,.0f} MiB")


def measure_memory(what: str, bars: int) -> None:
    """Do one thing and print the process's peak memory in MiB."""
    if what != "nothing":
        market = synthetic(bars, 4, "1m")
        if what == "scan":
            run_scan(market, settings_for(market))
        if what == "loop":
            rule = floats_of(settings_for(market))
            cascade_floats.run(market.closes.tolist(), market.close_ns.tolist(), CAPITAL, rule)
    # Not getrusage: there a child starts with its parent's peak.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    tell(str(int(status["VmHWM"].split()[0]) / 1024))


def compare_sweeps(bars: int, count: int) -> None:
    """Print a sweep's rates: ours, ours on two cores, the float loop, vectorbt."""
    market = synthetic(bars, 4, "5m", seed=11)
    grid = [(up, down) for up in ("0.2", "0.3", "0.4", "0.5") for down in ("0.15", "0.25", "0.35")][:count]
    settings = [settings_for(market, up, down) for up, down in grid]
    rows = sweep(market, settings)
    ours = median_s(lambda: sweep(market, settings), 3)
    began = time.perf_counter()
    spread_rows = sweep(market, settings, processes=2)
    spread = time.perf_counter() - began
    same = spread_rows == rows == sweep(market, settings, scan=numpy_scan)
    closes, times = market.closes.tolist(), market.close_ns.tolist()
    began = time.process_time()
    plain = [cascade_floats.run(closes, times, CAPITAL, floats_of(one)) for one in settings]
    loop = time.process_time() - began
    bars_all = bars * len(grid)
    tell(
        f"\nsweep: {len(grid)} rules x {bars:,} bars x 4 assets, {sum(row.rebalance_count for row in rows)} rebalances"
    )
    tell(f"  {'':<26}{'bars/s':>14}{'runs/s':>9}{'x tuned':>9}")
    for label, seconds in (("sweep", ours), ("sweep, 2 processes, wall", spread), ("tuned loop", loop)):
        tell(f"  {label:<26}{bars_all / seconds:>14,.0f}{len(grid) / seconds:>9.2f}{loop / seconds:>9.1f}")
    tell(f"  one core, two cores and the NumPy scan give {'the same rows' if same else 'DIFFERENT ROWS'}")
    ends = [float(row.final_value) for row in rows]
    tell(f"  ends: largest difference to the tuned loop {worst(ends, [one[0][-1] for one in plain]):.2%}")
    vectorbt(market, settings, ends, ours)


def vectorbt(market: MarketArrays, settings: list[BacktestSettings], ends: list[float], ours_s: float) -> None:
    """Run the same sweep in vectorbt, or print why not."""
    python = os.environ.get("CASCADE_BENCH_VECTORBT")
    if not python:
        tell("  vectorbt: skipped; set CASCADE_BENCH_VECTORBT to a Python that has it")
        return
    with tempfile.TemporaryDirectory() as folder:
        candles, rules = Path(folder) / "candles.npz", Path(folder) / "rules.json"
        np.savez(candles, closes=market.closes, close_ns=market.close_ns)
        given = {"rules": [floats_of(one) for one in settings], "cash": CAPITAL, "repeats": 3}
        rules.write_text(json.dumps(given), encoding="utf-8")
        done = subprocess.run(
            [python, str(PEERS / "vectorbt_sweep.py"), str(candles), str(rules)],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    if done.returncode:
        tell(f"  vectorbt: skipped, it failed: {done.stderr.strip().splitlines()[-1:]}")
        return
    found = json.loads(done.stdout)
    seconds, bars_all = statistics.median(found["seconds"]), len(market) * len(settings)
    tell(
        f"  {'vectorbt ' + found['version'] + ', warm':<26}{bars_all / seconds:>14,.0f}{len(settings) / seconds:>9.2f}"
    )
    tell(f"  sweep / vectorbt {seconds / ours_s:.1f} x (its first call took {found['first_s']:.0f} s, "
         f"its peak memory {found['rss_mb']:,.0f} MiB)")  # fmt: skip
    tell(f"  ends: largest difference to vectorbt {worst(ends, found['final_values']):.2%}")


def worst(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--rules", type=int, default=12)
    parser.add_argument("--memory", choices=("nothing", "arrays", "scan", "loop"))
    given = parser.parse_args()
    if given.memory:
        measure_memory(given.memory, given.bars)
        return
    tell(f"scan: {fastest_scan().__name__}")
    began = time.perf_counter()
    small = synthetic(2_000, 4, "1m")
    run_scan(small, settings_for(small))
    tell(f"first run, the compiled scan loaded from its cache or compiled: {time.perf_counter() - began:.2f} s")
    for count in (4, None):
        market = recorded(count)
        if market is None:
            tell(f"recorded candles: skipped, {RECORDED} is absent: set CASCADE_TEST_DATA")
            break
        compare(f"recorded {market.timeframe} candles", market, repeats=7, steps_max=len(market))
    market = synthetic(given.bars, 4, "1m")
    compare("synthetic 1m candles", market, repeats=5, steps_max=4_000)
    scans(market)
    del market
    compare("synthetic 1m candles", synthetic(given.bars // 20, 40, "1m"), repeats=3, steps_max=500)
    memory(given.bars)
    compare_sweeps(given.bars // 5, given.rules)


if __name__ == "__main__":
    main()
