"""Run the risk service: `python -m services.risk`."""

from services.risk.config import RiskConfig
from services.risk.desk import NAME
from services.risk.memory import open_memory
from services.risk.service import RiskService
from services.risk.surroundings import Setting
from shared.config import Mode, timeframe_ns
from shared.lifecycle import Runtime, run


async def build(runtime: Runtime) -> RiskService:
    """Make the service out of the process's settings and adapters."""
    stack = runtime.settings.stack
    config = runtime.settings.section(NAME, RiskConfig)
    limits = config.limits(stack.quote_asset, timeframe_ns(stack.timeframe), is_exclusive=stack.mode is not Mode.LIVE)
    setting = Setting(
        venue=stack.venue,
        timeframe=stack.timeframe,
        assets=stack.assets,
        is_market_time=not stack.mode.is_wire,
        start_active=stack.mode is not Mode.LIVE,
        is_real_money=stack.mode is Mode.LIVE,
    )
    store, memory, damage = open_memory(runtime.state_dir / "risk.db", limits)
    return RiskService(runtime, setting, memory, store, damage)


if __name__ == "__main__":
    run(NAME, build)
