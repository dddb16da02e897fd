"""The whole stack over the sandbox exchange's wire, with what breaks there; the exchange's own ledger is the truth."""

import asyncio
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from services.cli.runfile import USER
from shared.bus.port import Bus
from shared.bus.streams import MD_BARS, RISK
from shared.bus.subjects import RISK_STATE
from shared.bus.visit import connected
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.messages import BarsClosed, RiskState
from shared.testing.nats import nats_binary
from shared.testing.sandbox import AdminClient, Ledger
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 90.0
BAR = "2s"
# The basket is put right after nearly every bar, so that something is always on its way.
OPTIONS = (
    "stack.mode=sandbox",
    f"stack.timeframe={BAR}",
    "sandbox_exchange.speed=600",
    "rebalancer.trigger=absolute_band",
    "rebalancer.band_points=0.0015",
    "rebalancer.min_order_value=6",
    "rebalancer.cooldown_minutes=0",
    "rebalancer.bar_age_max_s=20",
    "execution.misses_span_s=2",
    "execution.reconcile_interval_s=1",
    "execution.resolve_interval_s=0.3",
    "risk.duplicate_window_s=1",
    "risk.stale_after_steps=10",
)


PLACE = "POST /api/v3/order"
# Who is killed while orders are under way. Whoever only listens dies together with somebody who acts.
KILLED = (("risk",), ("rebalancer", "recorder"), ("market_data", "dashboard"), ("nats",))


class Trading:
    """Be one running stack and the admin page of its exchange."""

    def __init__(self, run: StackRun, admin: AdminClient) -> None:
        self.run, self.admin = run, admin

    def pid(self, service: str) -> int:
        """Return a service's process."""
        pid = self.run.services()[service]["pid"]
        assert isinstance(pid, int)
        return pid

    async def kill(self, *services: str) -> None:
        """SIGKILL services while an order is on its way, wait until others do their work, and until that trades."""
        await self.until_sent()
        old = {service: self.pid(service) for service in services}
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)

        async def are_back() -> bool:
            now = self.run.services()
            return all(
                now[name]["pid"] not in (None, pid) and now[name]["phase"] == "ready" for name, pid in old.items()
            )

        await self.until(are_back, f"{' and '.join(services)} came back")
        await self.until_traded(1, f"after {' and '.join(services)} died")

    async def until_sent(self) -> None:
        """Wait until the exchange is asked for one order more."""
        seen = len(await self.admin.requests(PLACE))

        async def sent() -> bool:
            return len(await self.admin.requests(PLACE)) > seen

        await self.until(sent, "another order is sent")

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

    async def until_state(self, wanted: str) -> None:
        """Wait for a trading state, as risk publishes it."""

        async def reached() -> bool:
            async with self.bus() as bus:
                last = await bus.last(RISK, RISK_STATE)
            return last is not None and isinstance(last.message, RiskState) and last.message.state.value == wanted

        await self.until(reached, f"trading is {wanted}")

    def bus(self) -> AbstractAsyncContextManager[Bus]:
        """Connect to the stack's bus as the operator's command does."""
        file = json.loads((self.run.state_dir / "run.json").read_text())
        return connected(file["nats_url"], USER, Path(file["keys_dir"]))

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
        async with self.bus() as bus:
            found = await bus.history(MD_BARS, f"md.closed.{BAR}.>", limit=10_000)
        return [one.message for one in found if isinstance(one.message, BarsClosed)]

    async def check_steps(self) -> None:
        """Hold market data to one bar after another, whatever died meanwhile."""
        steps = await self.steps()
        assert [one.step for one in steps] == list(range(1, len(steps) + 1))
        assert len({after.close_time_ns - before.close_time_ns for before, after in pairwise(steps)}) == 1


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


async def test_every_service_may_be_killed_while_orders_are_under_way(tmp_path: Path) -> None:
    async with trading(tmp_path, "mexc") as stack:
        for services in KILLED:
            await stack.kill(*services)
        await stack.kill("execution")
        # What the exchange has told somebody it still knows: nothing was saved or stopped before.
        await stack.kill("sandbox_exchange")
        await stack.check()
        await stack.check_steps()

        stack.run.ask("resume", "--reason", "compared")
        await stack.until_state("active")
        await stack.admin.transfer("USDT", "-100")
        await stack.until_state("halted")
        status = json.loads(stack.run.ask("status", "--json").stdout)
        assert "USDT" in status["trading_reason"]


async def test_orders_over_the_wire_survive_lost_answers_and_cut_sockets(tmp_path: Path) -> None:
    async with trading(tmp_path, "binance") as stack:
        # The answer is lost after the exchange has executed: the order is found by its id, never sent again.
        for fault in ("timeout_after", "http_5xx_after"):
            await stack.admin.arm(fault, route=PLACE, times=1)
            await stack.until_traded(2, f"after {fault}")
        await stack.admin.arm("order_not_found", times=2, parameter=1.0)
        await stack.kill("execution")
        await stack.until_sent()
        assert await stack.admin.kill_sockets() > 0
        await stack.until_traded(1, "after every socket was cut")
        await stack.kill("sandbox_exchange")
        await stack.check()
        await stack.check_steps()
