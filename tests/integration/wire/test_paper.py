"""Mode paper: a venue's public feed, orders filled in execution; the venue never hears of them."""

import asyncio
import json
from pathlib import Path

import pytest

from shared.testing.nats import nats_binary
from shared.testing.sandbox import running_sandbox
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(200)]


async def test_paper_orders_fill_on_the_venues_market_and_never_reach_it(tmp_path: Path) -> None:
    nats_binary()
    async with running_sandbox("mexc", speed=60.0) as venue:
        options = (
            "stack.mode=paper",
            "stack.timeframe=2s",
            f"exchange.rest_url={venue.rest_url}",
            f"exchange.ws_url={venue.ws_url}",
        )
        run = StackRun(tmp_path, [word for option in options for word in ("--set", option)])
        await asyncio.to_thread(run.start)

        def filled() -> bool:
            answer = run.ask("orders", "--json")
            orders = json.loads(answer.stdout) if answer.returncode == 0 else []
            # A thin book may fill an order in part alone.
            return len({one["instrument"] for one in orders if float(one["filled_quantity"]) > 0}) == 4

        try:
            await asyncio.to_thread(run.until, run.is_ready, what="every service is ready")
            await asyncio.to_thread(run.until, filled, what="the first allocation is filled")
            assert "sandbox_exchange" not in run.services()
            ledger = await venue.admin.ledger()
            assert list(ledger.orders) == []
            status = json.loads(run.ask("status", "--json").stdout)
            assert (status["mode"], status["venue"], status["trading_state"]) == ("paper", "mexc", "active")
        finally:
            await asyncio.to_thread(run.stop)
