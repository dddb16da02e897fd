import asyncio
from pathlib import Path

import msgspec
import pytest
import structlog
from prometheus_client import generate_latest

from services.execution.__main__ import build
from services.execution.config import ExecutionConfig
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.streams import BUCKETS, STREAMS
from shared.config import Settings, load_settings
from shared.errors import ConfigError
from shared.lifecycle import ProcessConfig, Runtime


def settings(*overrides: str) -> Settings:
    return load_settings(None, overrides, {})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("execution.half_spread_bps=-1", "half_spread_bps"),
        ("execution.half_spread_bps=NaN", "half_spread_bps"),
        ("execution.slippage_bps=100000", "slippage_bps"),
        ("execution.taker_fee_rate=0.5", "taker_fee_rate"),
        ("execution.maker_fee_rate=-0.1", "maker_fee_rate"),
        ("execution.volume_share_max=0", "volume_share_max"),
        ("execution.volume_share_max=10", "volume_share_max"),
        ("execution.misses_min=1", "misses_min"),
        ("execution.misses_span_s=nan", "misses_span_s"),
        ("execution.venue_timeout_s=0", "venue_timeout_s"),
        ("execution.reconcile_interval_s=inf", "reconcile_interval_s"),
        ("execution.half_spred_bps=1", "did you mean 'half_spread_bps'"),
        ("execution.cancel_on_stop=maybe", "cancel_on_stop"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(override).section("execution", ExecutionConfig)


def test_settings_reach_the_fill_model() -> None:
    config = settings("execution.taker_fee_rate=0.002", "execution.slippage_bps=7").section(
        "execution", ExecutionConfig
    )
    model = config.fill_model()
    assert str(model.fees.taker_rate) == "0.002"
    assert str(model.slippage_bps) == "7"


def runtime(directory: Path, *overrides: str) -> Runtime:
    process = msgspec.structs.replace(ProcessConfig.from_environment(), state_dir=directory)
    return Runtime("execution", process, settings(*overrides), structlog.get_logger("test"))


async def test_live_trading_is_refused_as_long_as_it_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stack\.mode"):
        await build(runtime(tmp_path, "stack.mode=live"))


async def test_the_composition_root_starts_and_stops_over_the_lifecycle(tmp_path: Path) -> None:
    for initial in ("2500", "9999"):
        running = runtime(tmp_path, "stack.mode=replay", f"stack.initial_usdt={initial}")
        bus = MemoryBus(MemoryBroker())
        await bus.connect()
        await bus.bootstrap(STREAMS, BUCKETS)
        running.bus = bus
        service = await build(running)
        await service.start()
        account = await bus.last("ACCOUNTS", "acct.sandbox")
        assert account is not None
        assert account.message.equity_usdt == 2500
        with pytest.raises(ConfigError, match="another execution process"):
            await build(running)
        await asyncio.sleep(0)
        shown = generate_latest(running.metrics.registry).decode()
        assert "cascade_execution_orders_open 0.0" in shown
        assert "cascade_execution_halted 0.0" in shown
        await service.drain()
        await bus.close()
