"""Backtest the cascade rebalancer over recorded candles.

CASCADE_DATA=candles.csv.gz python examples/backtest.py HANA,AIA,XAN [START [END]]
"""

import asyncio
import sys

from services.rebalancer import BacktestEngine, RebalanceConfig


async def main(assets: list[str], start_date: str | None = None, end_date: str | None = None) -> None:
    config = RebalanceConfig(
        upside_threshold=0.40,
        downside_threshold=0.35,
        sell_percentage=0.20,
        usdt_reserve=0.30,
        min_order_value=15,
        cooldown_minutes=30,
    )
    engine = BacktestEngine(assets=assets, initial_capital=10000, config=config)
    results = await engine.run_backtest(start_date=start_date, end_date=end_date)
    print(results.summary())


if __name__ == "__main__":
    asyncio.run(main((sys.argv[1:2] or ["HANA,AIA,XAN"])[0].split(","), *sys.argv[2:4]))
