"""The computer sleeps while the stack trades at a venue: processes stop, the clock goes on, sockets may die."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.store.duck import open_store
from shared.testing.nats import nats_binary
from shared.testing.sandbox import Sandbox, running_sandbox
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(240)]

SLEEP_S, BAR_S = 15.0, 3


def options(sandbox: Sandbox, place: Path) -> list[str]:
    for name in ("api_key", "secret"):
        (place / name).write_text(getattr(sandbox, name))
        (place / name).chmod(0o600)
    settings = {
        "stack.mode": "sandbox",
        "stack.venue": sandbox.venue,
        "stack.timeframe": f"{BAR_S}s",
        "stack.assets": "H-USDT,TAO-USDT,PENGU-USDT",
        "exchange.rest_url": sandbox.rest_url,
        "exchange.ws_url": sandbox.ws_url,
        "exchange.key_file": str(place / "api_key"),
        "exchange.secret_file": str(place / "secret"),
        "rebalancer.bar_age_max_s": "20",
    }
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


async def test_a_computer_that_sleeps_and_wakes_goes_on_where_the_market_is(tmp_path: Path) -> None:
    nats_binary()
    async with running_sandbox("mexc", symbols="HUSDT,TAOUSDT,PENGUUSDT", speed=60) as sandbox:
        run = StackRun(tmp_path, options(sandbox, tmp_path))

        def status() -> dict[str, object]:
            answer = run.ask("status", "--json")
            return json.loads(answer.stdout) if answer.returncode == 0 else {}

        def has_traded() -> bool:
            answer = run.ask("orders", "--json")
            orders = json.loads(answer.stdout) if answer.returncode == 0 else []
            return [one["state"] for one in orders] == ["filled"] * 3

        await asyncio.to_thread(run.start)
        try:
            await asyncio.to_thread(run.until, has_traded, what="the first allocation is filled")
            before = run.services()
            pids = [run.process.pid, *(one["pid"] for one in before.values())]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)  # type: ignore[arg-type]
            await asyncio.sleep(SLEEP_S)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)  # type: ignore[arg-type]
            woke_ns = wall_ns()

            def goes_on() -> bool:
                told = status()
                return (
                    bool(told)
                    and told["trading_state"] == "active"
                    and closed(run)[-1:] > [woke_ns + BAR_S * NANOSECONDS_PER_SECOND]
                )

            await asyncio.to_thread(run.until, goes_on, what="steps are closed after it woke")
            after = run.services()
            assert {name: one["pid"] for name, one in after.items()} == {
                name: one["pid"] for name, one in before.items()
            }
        finally:
            await asyncio.to_thread(run.stop)
        times = closed(run)
        assert times == list(range(times[0], times[-1] + 1, BAR_S * NANOSECONDS_PER_SECOND)), "each step once, in order"
        ledger = await sandbox.admin.ledger()
        sent = [one.client_order_id for one in ledger.orders if one.account == "trader"]
        assert len(sent) == len(set(sent)) >= 3, "nothing was ordered twice"
        for service in ("market_data", "execution"):
            assert "this computer slept for" in (run.state_dir / "logs" / f"{service}.log").read_text(), service


def closed(run: StackRun) -> list[int]:
    """Return the times of the steps that are recorded."""
    with open_store(run.state_dir / "store") as store:
        return [one.close_time_ns for one in store.read_messages("bars_closed")]
