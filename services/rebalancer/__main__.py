"""Compose the rebalancer: settings, runtime, service."""

from pathlib import Path

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
    if config.weights_file:
        config = _with_weights(config)
    return RebalancerService(
        bus=runtime.bus,
        clock=runtime.clock,
        config=config,
        venue=stack.venue,
        timeframe=stack.timeframe,
        quote=stack.quote_asset,
        report_progress=runtime.report_progress,
        telemetry=Telemetry(runtime.metrics),
    )


def _with_weights(config: RebalanceConfig) -> RebalanceConfig:
    try:
        return config.with_weights(Path(config.weights_file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"rebalancer.weights_file {config.weights_file}: {error.strerror}: name a file") from error
    except ValueError as error:
        raise ConfigError(f"rebalancer.{error}") from error


if __name__ == "__main__":
    run("rebalancer", build)
