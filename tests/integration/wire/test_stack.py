"""The whole stack over the sandbox exchange's wire, with what breaks there; the exchange's own ledger is the truth."""

import asyncio
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from services.cli.client import connected
from shared.bus.streams import MD_BARS
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.messages import BarsClosed
from shared.testing.nats import nats_binary
from shared.testing.sandbox import AdminClient, Ledger
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 90.0
BAR = "4s"
# Trades come when the test asks for them, and whenever the market has moved a little.
OPTIONS = (
    "stack.mode=sandbox",
    f"stack.timeframe={BAR}",
    "sandbox_exchange.speed=600",
    "rebalancer.trigger=absolute_band",
    "rebalancer.band_points=0.004",
    "rebalancer.min_order_value=6",
    "rebalancer.cooldown_minutes=0",
    "rebalancer.bar_age_max_s=20",
    "execution.misses_span_s=3",
    "execution.reconcile_interval_s=1",
    "execution.resolve_interval_s=0.3",
    "risk.duplicate_window_s=1",
)


class Trading:
    """Be one running stack and the admin page of its exchange."""

    def __init__(self, run: StackRun, admin: AdminClient) -> None:
        self.run, self.admin = run, admin

    def pid(self, service: str) -> int:
        """Return a service's process."""
        pid = self.run.services()[service]["pid"]
        assert isinstance(pid, int)
        return pid

    async def kill(self, service: str) -> None:
        """SIGKILL a service and wait until another process does its work."""
        await asyncio.to_thread(self.run.kill, service)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: Callable[[], str] | str) -> None:
        """Poll until the condition holds."""
        give_up_ns = monotonic_ns() + PATIENCE_S * NANOSECONDS_PER_SECOND
        while not await condition():
            if monotonic_ns() > give_up_ns:
                pytest.fail(f"never happened: {what if isinstance(what, str) else what()}\n{self.said()}")
            await asyncio.sleep(0.05)

    async def until_traded(self, executions: int, what: str) -> None:
        """Wait until the account has made so many executions more."""
        before = len((await self.admin.ledger()).executions)

        async def traded() -> bool:
            return len((await self.admin.ledger()).executions) >= before + executions

        await self.until(traded, f"{executions} more executions {what}")

    async def until_booked(self) -> Ledger:
        """Wait until books and exchange agree at rest, and return the exchange's ledger."""
        seen: list[Ledger] = []

        async def agree() -> bool:
            seen.append(await self.admin.ledger())
            return self.differences(seen[-1]) == []

        await self.until(agree, lambda: f"books and exchange agree: {self.differences(seen[-1])}")
        return seen[-1]

    def differences(self, ledger: Ledger) -> list[str]:
        """Return where execution's journal and the exchange's ledger differ, to the last decimal."""
        with sqlite3.connect(f"file:{self.run.state_dir}/execution.sqlite3?mode=ro", uri=True) as journal:
            fills = dict(journal.execute("SELECT reference, quantity FROM ledger_entries WHERE kind = 'fill'"))
            orders = dict(journal.execute("SELECT client_order_id, state FROM orders WHERE state != 'denied'"))
        found = [f"executions: {len(ledger.executions)} there, {len(fills)} booked"]
        if len(fills) == len(ledger.executions):
            found = []
        if sum(map(Decimal, fills.values())) != sum(one.quantity for one in ledger.executions):
            found.append("quantities")
        found += [f"{one.client_order_id} is not ours" for one in ledger.orders if one.client_order_id not in orders]
        found += [
            f"{one.client_order_id} is {one.status} there, {state} here"
            for one in ledger.orders
            if (state := orders.get(one.client_order_id, "")) and one.status == "filled" and state != "filled"
        ]
        return found

    def balances(self) -> dict[str, Decimal]:
        """Return what the stack says that the account holds."""
        answer = json.loads(self.run.ask("balances", "--json").stdout)
        return {one["asset"]: Decimal(str(one["free"])) + Decimal(str(one["locked"])) for one in answer["balances"]}

    def trading_state(self) -> str:
        """Return the trading state."""
        return str(json.loads(self.run.ask("status", "--json").stdout)["trading_state"])

    def said(self) -> str:
        """Return the ends of the logs."""
        logs = self.run.state_dir / "logs"
        parts = [self.run.log()[-1_500:]]
        parts += [(logs / f"{name}.log").read_text()[-2_500:] for name in ("execution", "market_data", "risk")]
        return "\n".join(parts)

    async def check(self) -> None:
        """Hold the stack to the exchange's ledger: one order for an intent, the same money on both sides."""
        await self.until_booked()
        self.run.ask("halt", "--reason", "to compare")
        ledger = await self.until_booked()
        counts = Counter(one.client_order_id for one in ledger.orders)
        assert [name for name, times in counts.items() if times > 1] == []

        async def same() -> bool:
            told = await asyncio.to_thread(self.balances)
            return all(told.get(one.asset, Decimal(0)) == one.free + one.locked for one in ledger.holdings["trader"])

        await self.until(same, "balances are the exchange's")
        assert {total.difference for total in ledger.totals.values()} == {Decimal(0)}
        status = json.loads(self.run.ask("status", "--json").stdout)
        assert "compare" in status["trading_reason"], status["trading_reason"]

    async def steps(self) -> list[BarsClosed]:
        """Return every step in the stream."""
        file = json.loads((self.run.state_dir / "run.json").read_text())
        async with connected(file["nats_url"], Path(file["keys_dir"])) as bus:
            found = await bus.history(MD_BARS, f"md.closed.{BAR}.>", limit=10_000)
        return [one.message for one in found if isinstance(one.message, BarsClosed)]


@asynccontextmanager
async def trading(folder: Path, venue: str) -> AsyncIterator[Trading]:
    """Run a stack until it has made its first trades."""
    nats_binary()
    options = [word for option in (*OPTIONS, f"stack.venue={venue}") for word in ("--set", option)]
    run = StackRun(folder, options)
    await asyncio.to_thread(run.start)
    try:
        await asyncio.to_thread(run.until, run.is_ready, what="every service is ready")
        settings = json.loads((run.state_dir / "settings.json").read_text())
        url = f"http://127.0.0.1:{settings['sandbox_exchange']['admin_port']}/admin"
        async with aiohttp.ClientSession() as session:
            one = Trading(run, AdminClient(url, session))
            await one.until_traded(4, "at first")
            yield one
    finally:
        await asyncio.to_thread(run.stop)


@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_orders_over_the_wire_survive_kills_and_faults(tmp_path: Path, venue: str) -> None:
    place = "POST /api/v3/order"
    async with trading(tmp_path, venue) as stack:
        admin = stack.admin
        # The answer is lost after the exchange has executed: the order is found by its id, never sent again.
        await admin.arm("timeout_after", route=place, times=1)
        await stack.until_traded(2, "after a lost answer")
        await admin.arm("http_5xx_after", route=place, times=1)
        await stack.until_traded(2, "after a 503")
        await admin.arm("order_not_found", times=2, parameter=1.0)
        await stack.until_traded(1, "while orders are not shown")

        # Killed between sending and the answer.
        seen = len(await admin.requests(place))

        async def sent() -> bool:
            return len(await admin.requests(place)) > seen

        await stack.until(sent, "another order is sent")
        os.kill(stack.pid("execution"), signal.SIGKILL)
        await stack.until_traded(2, "after execution was killed")

        assert await admin.kill_sockets() > 0
        await stack.until_traded(2, "after every socket was cut")
        await stack.kill("market_data")
        await stack.until_traded(2, "after market data was killed")
        await stack.check()
        steps = await stack.steps()
        assert [one.step for one in steps] == list(range(1, len(steps) + 1))
        assert len({after.close_time_ns - before.close_time_ns for before, after in pairwise(steps)}) == 1


async def test_an_exchange_that_dies_goes_on_from_its_state(tmp_path: Path) -> None:
    async with trading(tmp_path, "mexc") as stack:
        stack.run.ask("halt", "--reason", "the exchange is about to die")
        await stack.until_booked()
        await stack.admin.save()
        await stack.kill("sandbox_exchange")
        stack.run.ask("resume", "--reason", "it is back")
        await stack.until_traded(2, "after the exchange was killed")
        await stack.check()


async def test_money_from_outside_halts_trading(tmp_path: Path) -> None:
    async with trading(tmp_path, "mexc") as stack:
        await stack.admin.transfer("USDT", "-100")

        async def halted() -> bool:
            return await asyncio.to_thread(stack.trading_state) == "halted"

        await stack.until(halted, "the mismatch halts trading")
        status = json.loads(stack.run.ask("status", "--json").stdout)
        assert "USDT" in status["trading_reason"]
