"""Compose the rebalancer: settings, runtime, service."""

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.service import RebalancerService
from services.rebalancer.telemetry import Telemetry
from shared.errors import ConfigError
from shared.lifecycle import Runtime, run


async def build(runtime: Runtime) -> RebalancerService:
    """Return the service that the settings describe; the basket is the stack's unless the section names its own."""
    stack = runtime.settings.stack
    config = runtime.settings.section("rebalancer", RebalanceConfig, assets=stack.assets)
    unknown = [asset for asset in config.assets if asset not in stack.assets]
    if unknown:
        raise ConfigError(f"rebalancer.assets: {unknown[0]} is not in stack.assets ({', '.join(stack.assets)})")
    if len(config.assets) < 2:
        raise ConfigError("rebalancer.assets must name at least two markets: one alone is always its own mean")
    return RebalancerService(
        bus=runtime.bus,
        clock=runtime.clock,
        config=config.with_weights_file("rebalancer."),
        venue=stack.venue,
        timeframe=stack.timeframe,
        quote=stack.quote_asset,
        report_progress=runtime.report_progress,
        telemetry=Telemetry(runtime.metrics),
    )


if __name__ == "__main__":
    run("rebalancer", build)
