"""A sweep's rows are the figures of the single, step-by-step runs, on one core and on several."""

from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Engine
from services.backtest.core.figures import figures
from services.backtest.core.outcome import daily_curve, fill_rows, rebalances
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_kernel import numpy_scan
from services.backtest.core.scan_market import MarketArrays
from services.backtest.sweep import sweep
from services.rebalancer.config import RebalanceConfig
from shared.domain.digests import fills_digest, unique_fills
from shared.messages import Instrument

STEP_NS = 4 * 3_600_000_000_000
START_NS = 1_700_006_400_000_000_000
NAMES = ("A-USDT", "B-USDT", "C-USDT")


def market(seed: int, *, gaps: bool) -> MarketArrays:
    source = np.random.default_rng(seed)
    closes = np.round(100 * np.exp(np.cumsum(source.normal(0, 0.05, (300, 3)), axis=0)), 4)
    if gaps:
        closes[source.random(closes.shape) < 0.05] = np.nan
    times = START_NS + STEP_NS * np.arange(300, dtype=np.int64)
    grid = Decimal("0.0001")
    return MarketArrays(
        instruments=tuple(Instrument(one, one[0], "USDT", grid, grid, Decimal(0), Decimal(5)) for one in NAMES),
        timeframe="4h",
        open_ns=times,
        close_ns=times + STEP_NS,
        opens=closes,
        highs=closes,
        lows=closes,
        closes=closes,
        volumes=np.full(closes.shape, 1e9),
    )


def grid_of_settings() -> list[BacktestSettings]:
    return [
        BacktestSettings(
            rebalancer=RebalanceConfig(
                assets=NAMES, upside_threshold=Decimal(up), downside_threshold=Decimal(down), usdt_reserve=Decimal(kept)
            )
        )
        for up in ("0.1", "0.3", "0.5")
        for down in ("0.1", "0.3")
        for kept in ("0.1", "0.3")
    ]


@pytest.mark.parametrize("gaps", [False, True])
def test_a_row_is_the_step_by_step_runs_figures(gaps: bool) -> None:
    there, settings = market(1, gaps=gaps), grid_of_settings()
    rows = sweep(there, settings, scan=numpy_scan)
    assert len({row.final_value for row in rows}) > 6
    for row, one in zip(rows, settings, strict=True):
        log = Engine(one.engine("4h", STEP_NS), Rebalancing(one.rebalancer), there).run()
        fills = fill_rows(log, "USDT")
        daily = daily_curve(log.times_ns, log.equity, START_NS, log.initial_equity, STEP_NS)
        exact = figures(log, fills, rebalances(log, fills), daily, first_open_ns=START_NS, timeframe_ns=STEP_NS)
        for name in ("final_value", "total_return", "rebalance_count", "orders", "fills", "refused", "fees_paid"):
            assert getattr(row, name) == getattr(exact, name), name
        assert row.max_drawdown == pytest.approx(exact.max_drawdown, rel=1e-9)
        assert row.sharpe == pytest.approx(exact.sharpe, rel=1e-9)
        assert row.fills_digest == fills_digest(unique_fills(log.events))
        assert row.handled_bars < len(there)


@pytest.mark.timeout(120)
def test_two_processes_give_the_same_rows_in_the_same_order() -> None:
    there, settings = market(2, gaps=False), grid_of_settings()
    told: list[tuple[int, int]] = []
    rows = sweep(there, settings, processes=2, on_progress=lambda done, of: told.append((done, of)))
    assert rows == sweep(there, settings)
    assert told == [(number, len(settings)) for number in range(1, len(settings) + 1)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_one_run_ends_the_sweep(processes: int) -> None:
    there, settings = market(3, gaps=False), grid_of_settings()[:2]
    there.lows[5, 0] = there.highs[5, 0] = -1.0
    with pytest.raises(Exception, match="positive number, got -1"):
        sweep(there, settings, processes=processes)


def test_an_empty_sweep_is_empty() -> None:
    assert sweep(market(4, gaps=False), []) == []
    assert sweep(market(4, gaps=False), [], processes=2) == []


def test_a_row_can_be_kept_as_json(tmp_path: Path) -> None:
    row = sweep(market(5, gaps=False), grid_of_settings()[:1])[0]
    kept = tmp_path / "row.json"
    kept.write_bytes(msgspec.json.encode(row))
    assert msgspec.json.decode(kept.read_bytes(), type=type(row)) == row
