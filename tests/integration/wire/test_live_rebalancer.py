"""`LiveRebalancer` at a wire, as printed: it trades through the services, and the sandbox's ledger is the truth."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.backtest.wire_result import WireRebalance, WireResult
from services.rebalancer import LiveRebalancer, RebalanceConfig
from shared.errors import ConfigError, UnavailableError
from shared.exchange import DualExchange, ExchangeConfig
from shared.store.duck import open_store
from shared.testing.nats import nats_binary
from shared.testing.sandbox import Ledger, Sandbox, running_sandbox
from tests.integration.supervisor.fakes import is_alive, until

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ["H", "TAO", "PENGU"]
MARKETS = "HUSDT,TAOUSDT,PENGUUSDT"
PATIENCE_S = 150.0


def reached(sandbox: Sandbox, **changes: object) -> dict[str, object]:
    told = {name: getattr(sandbox, name) for name in ("venue", "rest_url", "ws_url", "ws_api_url", "api_key", "secret")}
    return told | {"mode": "sandbox", "timeframe": "2s"} | changes


def what_became(state: Path) -> list[object]:
    """Return what became of the orders, for whoever reads a failure."""
    with open_store(state / "store") as store:
        refused = [(one.code, one.detail) for one in store.read_messages("order_refusals")]
        events = [(one.instrument, one.state, one.reason) for one in store.read_messages("order_events")]
    return [*refused, *events]


def executed(ledger: Ledger) -> set[str]:
    return {one.client_order_id for one in ledger.executions if one.account == "trader"}


@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_live_as_printed_trades_at_the_venue_through_the_services(
    venue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats_binary()
    # A setting of the environment must not change what the program says.
    monkeypatch.setenv("CASCADE_REBALANCER__ENABLED", "false")
    monkeypatch.setenv("CASCADE_REPLAY", "nothing.csv")
    async with running_sandbox(venue, symbols=MARKETS, speed=60) as sandbox:
        config = RebalanceConfig(upside_threshold=0.40, downside_threshold=0.35, bar_age_max_s=20)
        exchange = DualExchange.get_instance(reached(sandbox))
        await exchange.initialize(ASSETS)
        assert await sandbox.admin.sockets(), "the exchange was connected before"
        seen: list[WireRebalance] = []

        def tell(plan: object) -> None:
            assert isinstance(plan, WireRebalance)
            seen.append(plan)
            rebalancer.stop()

        rebalancer = LiveRebalancer(
            exchange=exchange, assets=ASSETS, config=config, on_rebalance=tell, state_dir=tmp_path / "state"
        )
        with pytest.raises(ConfigError, match="in use"):
            LiveRebalancer(exchange, ASSETS, config)
        async with asyncio.timeout(PATIENCE_S):
            result = await rebalancer.run_forever()
        assert isinstance(result, WireResult)
        assert [plan.direction for plan in seen] == ["allocate"]
        assert result.rebalances == tuple(seen)
        assert seen[0].orders == 3, what_became(tmp_path / "state")
        assert result.summary()

        ledger = await sandbox.admin.ledger()
        assert len(executed(ledger)) == 3
        assert not any(order.is_open for order in ledger.orders if order.account == "trader")
        for asset in ("USDT", *ASSETS):
            assert result.balances[asset] == ledger.holding(asset).free
        paid = sum(
            (one.fee * (Decimal(1) if one.fee_asset == "USDT" else one.price) for one in ledger.executions
             if one.account == "trader"),
            Decimal(0),
        )  # fmt: skip
        assert result.fees_paid == pytest.approx(paid)
        assert journalled(tmp_path / "state") == executed(ledger)
        assert await sandbox.admin.sockets() == [], "somebody still is connected"
        assert sandbox.secret not in (tmp_path / "state" / "program.json").read_text()
        assert (tmp_path / "state" / "program.secret").stat().st_mode & 0o077 == 0
        with pytest.raises(ConfigError, match="has run already"):
            await rebalancer.run_forever()
        await exchange.close()


def journalled(state_dir: Path) -> set[str]:
    (file,) = state_dir.rglob("execution.sqlite3")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as books:
        return {row[0] for row in books.execute("SELECT client_order_id FROM orders")}


async def test_a_later_run_goes_on_with_the_same_account_and_cancelling_stops_it(tmp_path: Path) -> None:
    nats_binary()
    async with running_sandbox("mexc", symbols=MARKETS, speed=60) as sandbox:
        orders, rebalancers = [], []
        seen: asyncio.Queue[object] = asyncio.Queue()
        for number in range(2):
            exchange = DualExchange(config_of(sandbox))
            await exchange.initialize(ASSETS)
            rebalancer = LiveRebalancer(
                exchange,
                ASSETS,
                RebalanceConfig(bar_age_max_s=20),
                on_rebalance=seen.put_nowait,
                state_dir=tmp_path / "state",
            )
            rebalancers.append(rebalancer)
            running = asyncio.ensure_future(rebalancer.run_forever())
            async with asyncio.timeout(PATIENCE_S):
                if number == 0:
                    await seen.get()
                else:
                    while (result := rebalancer.result()) is None or len(result.balances) < 4:
                        assert not running.done(), running
                        await asyncio.sleep(0.2)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            orders.append(len(executed(await sandbox.admin.ledger())))
            assert await sandbox.admin.sockets() == []
            assert seen.empty(), "a plan is told once"
        assert orders[0] == orders[1] == 3
        first, second = (one.result() for one in rebalancers)
        assert first is not None
        assert second is not None
        assert first.balances == second.balances


def config_of(sandbox: Sandbox) -> ExchangeConfig:
    return msgspec.convert(reached(sandbox), ExchangeConfig)


async def test_what_cascade_up_refuses_is_raised_with_its_words(tmp_path: Path) -> None:
    nats_binary()
    async with running_sandbox("mexc", symbols=MARKETS) as sandbox:
        exchange = DualExchange(config_of(sandbox))
        await exchange.initialize(ASSETS)
        state = tmp_path / "state"
        state.mkdir()
        (state / "identity.json").write_text('{"stack.venue": "binance"}')
        with pytest.raises(ConfigError, match=r"stack\.venue was binance, now it is mexc"):
            await LiveRebalancer(exchange, ASSETS, state_dir=state).run_forever()
        public = DualExchange(config_without_key(sandbox))
        await public.initialize(ASSETS)
        with pytest.raises(ConfigError, match="key"):
            LiveRebalancer(public, ASSETS, state_dir=state)
        await public.close()


def config_without_key(sandbox: Sandbox) -> ExchangeConfig:
    return msgspec.convert(reached(sandbox, api_key="", secret=""), ExchangeConfig)


async def test_a_stack_that_ends_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    nats_binary()
    async with running_sandbox("mexc", symbols=MARKETS) as sandbox:
        exchange = DualExchange(config_of(sandbox))
        await exchange.initialize(ASSETS)
        rebalancer = LiveRebalancer(exchange, ASSETS, state_dir=tmp_path / "state")
        running = asyncio.ensure_future(rebalancer.run_forever())
        run_file = tmp_path / "state" / "run.json"
        async with asyncio.timeout(PATIENCE_S):
            while not run_file.exists():
                assert not running.done(), running
                await asyncio.sleep(0.1)
            os.kill(json.loads(run_file.read_text())["supervisor_pid"], signal.SIGKILL)
            with pytest.raises(UnavailableError, match=r"by itself with code -9"):
                await running


def key_files(place: Path) -> dict[str, str]:
    files = {name: place / name for name in ("key_file", "secret_file")}
    for path in files.values():
        path.write_text("mx0vglABCDEF1234")
        path.chmod(0o600)
    return {name: str(path) for name, path in files.items()}


async def test_live_is_refused_by_the_stack_too_when_a_switch_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = {"venue": "mexc", "mode": "live", **key_files(tmp_path)}
    monkeypatch.delenv("CASCADE_LIVE_ARMED", raising=False)
    with pytest.raises(ConfigError, match="two switches"):
        DualExchange.get_instance(live)
    with pytest.raises(ConfigError, match="CASCADE_LIVE_ARMED=yes"):
        DualExchange.get_instance(live | {"armed": True})
    monkeypatch.setenv("CASCADE_LIVE_ARMED", "yes")
    exchange = DualExchange(msgspec.convert(live | {"armed": True}, ExchangeConfig))
    exchange.symbols = ("H-USDT", "TAO-USDT", "PENGU-USDT")  # as `initialize` leaves it, which would ask the real venue
    rebalancer = LiveRebalancer(exchange, ASSETS, state_dir=tmp_path / "state")
    monkeypatch.delenv("CASCADE_LIVE_ARMED")
    with pytest.raises(ConfigError, match=r"two switches; missing: CASCADE_LIVE_ARMED=yes"):
        await rebalancer.run_forever()
    assert rebalancer.result() is None
    assert not (tmp_path / "state" / "nats").exists(), "something was started"


def started_example(place: Path) -> subprocess.Popen[bytes]:
    with (place / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "live_rebalancer_sandbox.py")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=place,
            stdout=said,
            stderr=said,
        )


def processes(place: Path) -> set[int]:
    found: set[int] = set()
    for file in place.glob("var/*/run.json"):
        run = json.loads(file.read_text())
        found |= {run["supervisor_pid"], *(one["pid"] for one in run["services"] if one["pid"] is not None)}
    return found


async def test_nothing_is_left_of_a_program_that_was_killed(tmp_path: Path) -> None:
    nats_binary()
    program = started_example(tmp_path)
    pids: set[int] = set()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(pids) < 8:  # the supervisor, the bus and six services
                assert program.poll() is None, (tmp_path / "said").read_text()
                pids = processes(tmp_path)
                await asyncio.sleep(0.1)
    finally:
        program.kill()
        program.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids), what="nothing is left", patience_s=90)


def test_the_example_trades_at_its_sandbox(tmp_path: Path) -> None:
    nats_binary()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "live_rebalancer_sandbox.py"), "H,TAO,PENGU", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (state,) = (tmp_path / "var").iterdir()
    assert "allocate the basket: 3 orders" in done.stdout, what_became(state)
    assert "Total return" in done.stdout
    assert state.name.startswith("sandbox-mexc-")
    assert len(journalled(state)) == 3
