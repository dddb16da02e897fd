"""Rebalance a basket at an exchange's wire: a sandbox exchange of your own that speaks MEXC's protocol.

python examples/live_rebalancer_sandbox.py H,TAO,PENGU [PLANS]     ends after PLANS plans, or with Ctrl-C

The services that trade (market data, rebalancer, risk, execution with its journal, recorder, dashboard) run beside this
process. For the real venue give `DualExchange` `mode="live"`, key files and both switches instead: see the README.
"""

import asyncio
import contextlib
import json
import subprocess
import sys

from services.rebalancer import LiveRebalancer, RebalanceConfig
from shared.exchange import DualExchange

SANDBOX = (sys.executable, "-m", "services.cli", "sandbox", "--json", "--stop-with-stdin", "--speed", "60")
REACHED = ("venue", "rest_url", "ws_url", "ws_api_url", "api_key", "secret")


async def main(told: dict, assets: list[str], plans: int | None = None) -> None:
    config = RebalanceConfig(upside_threshold=0.40, downside_threshold=0.35)
    exchange = DualExchange.get_instance({"mode": "sandbox", "timeframe": "5s", **{key: told[key] for key in REACHED}})
    await exchange.initialize(assets)
    seen = []

    def tell(plan) -> None:
        seen.append(plan)
        print(f"{plan.direction} {plan.asset or 'the basket'}: {plan.orders} orders, cost {plan.cost_quote:.2f} USDT")
        if plans is not None and len(seen) >= plans:
            rebalancer.stop()

    rebalancer = LiveRebalancer(exchange=exchange, assets=assets, config=config, on_rebalance=tell)
    try:
        await rebalancer.run_forever()
    finally:
        result = rebalancer.result()
        print(result.summary() if result is not None else "No account has been reported yet.")
        await exchange.close()


if __name__ == "__main__":
    basket = (sys.argv[1:2] or ["H,TAO,PENGU"])[0].split(",")
    symbols = ",".join(f"{one}USDT" for one in basket)
    # The sandbox ends when this process does: its standard input ends then.
    with subprocess.Popen(
        [*SANDBOX, "--symbols", symbols],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as venue:
        announced = json.loads(venue.stdout.readline())
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(announced, basket, *map(int, sys.argv[2:3])))
        venue.stdin.close()
