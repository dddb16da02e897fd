"""Run the market data service: `python -m services.market_data`."""

from services.market_data.config import MarketDataConfig
from services.market_data.guard import NAME
from services.market_data.live import LiveMarketService
from services.market_data.service import MarketDataService
from shared.exchange.access import access_of, market_wire
from shared.exchange.venues import make_market
from shared.lifecycle import Runtime, Service, run


async def build(runtime: Runtime) -> Service:
    """Make the service out of the process's settings and adapters."""
    stack = runtime.settings.stack
    config = runtime.settings.section(NAME, MarketDataConfig)

    def show(detail: str) -> None:
        if runtime.is_ready:
            runtime.detail = detail

    if stack.mode.is_wire:
        return LiveMarketService(
            runtime.bus,
            make_market(market_wire(stack, access_of(runtime.settings))),
            stack,
            config,
            spawn=runtime.spawn,
            metrics=runtime.metrics,
            log=runtime.log,
            on_detail=show,
        )
    from services.market_data.feeds import build_feed  # noqa: PLC0415 - a live feed needs no reader of files

    return MarketDataService(
        runtime.bus,
        build_feed(stack, config),
        config,
        venue=runtime.venue,
        spawn=runtime.spawn,
        metrics=runtime.metrics,
        log=runtime.log,
        on_detail=show,
    )


if __name__ == "__main__":
    run(NAME, build)
