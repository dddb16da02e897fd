"""Every service as its own process over a real nats-server, and the engine: the same run, by its digests."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from services.backtest.api import BacktestEngine
from shared.testing.data import data_file
from shared.testing.nats import nats_binary
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(300)]

ASSETS = "RIVERUSDT,HUSDT,PENGUUSDT,TAOUSDT"


async def test_replay_through_the_stack_is_the_backtest_to_the_last_digit(tmp_path: Path) -> None:
    nats_binary()
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    with StackRun(tmp_path, ("--replay", str(path), "--assets", ASSETS, "--speed", "max")) as run:
        run.finish()
    there = json.loads((tmp_path / "out.json").read_text(), parse_float=Decimal)
    result = await BacktestEngine(ASSETS.split(","), 10_000, data=path).run_backtest()
    figures = result.figures
    assert there["steps"] == len(result.log.times_ns) == 685
    assert there["decisions_digest"] == result.decisions_digest
    assert there["fills_digest"] == result.fills_digest
    assert there["final_equity"] == figures.final_value
    assert there["fees_paid_usdt"] == figures.fees_paid
    assert there["rebalance_count"] == figures.rebalance_count
    assert there["balances"]["USDT"] == result.usdt
    assert there["balances"]["H"] == result.quantities["HUSDT"]
    assert float(there["max_drawdown"]) == pytest.approx(figures.max_drawdown, rel=1e-12)
    assert float(there["buy_and_hold_return"]) == pytest.approx(figures.buy_and_hold_return, rel=1e-12)
    deviations = [str(one["deviation"])[:15] for one in there["rebalances"]]
    assert deviations == [str(one.deviation)[:15] for one in result.rebalances]
