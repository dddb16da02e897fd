"""Run the market data service: `python -m services.market_data`."""

from services.market_data.config import MarketDataConfig
from services.market_data.feeds import build_feed
from services.market_data.service import NAME, MarketDataService
from shared.lifecycle import Runtime, run


async def build(runtime: Runtime) -> MarketDataService:
    """Make the service out of the process's settings and adapters."""
    config = runtime.settings.section(NAME, MarketDataConfig)
    feed = build_feed(runtime.settings.stack, config)

    def show(detail: str) -> None:
        if runtime.is_ready:
            runtime.detail = detail

    return MarketDataService(
        runtime.bus,
        feed,
        config,
        venue=runtime.venue,
        spawn=runtime.spawn,
        metrics=runtime.metrics,
        log=runtime.log,
        on_detail=show,
    )


if __name__ == "__main__":
    run(NAME, build)
