"""Rebalance a basket on the paper venue: candles of CASCADE_DATA, or a made-up market when there are none.

python examples/live_rebalancer.py HANA,AIA,XAN [SPEED]     SPEED: market seconds per second, or max; Ctrl-C ends it
"""

import asyncio
import contextlib
import sys

from services.backtest.core.outcome import Rebalance
from services.rebalancer import LiveRebalancer, RebalanceConfig
from shared.exchange import DualExchange, ExchangeConfig


def tell(plan: Rebalance) -> None:
    print(f"{plan.direction} {plan.asset or 'the basket'}: {len(plan.legs)} orders, cost {plan.cost_quote:.2f} USDT")


async def main(assets: list[str], speed: str = "3600") -> None:
    config = RebalanceConfig(upside_threshold=0.40, downside_threshold=0.35)
    exchange = DualExchange.get_instance(ExchangeConfig(venue="paper", speed=speed))
    await exchange.initialize(assets)
    rebalancer = LiveRebalancer(exchange=exchange, assets=assets, config=config, on_rebalance=tell)
    try:
        await rebalancer.run_forever()
    finally:
        result = rebalancer.result()
        print(result.summary() if result is not None else "No bar has closed yet.")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main((sys.argv[1:2] or ["HANA,AIA,XAN"])[0].split(","), *sys.argv[2:3]))
