"""Run the dashboard."""

from services.dashboard.config import DashboardConfig
from services.dashboard.service import DashboardService
from services.dashboard.web import WebServer
from shared.lifecycle import Runtime, run


async def build(runtime: Runtime) -> DashboardService:
    """Compose the service from its runtime."""
    config = runtime.settings.section("dashboard", DashboardConfig)
    stack = runtime.settings.stack
    return DashboardService(
        runtime.bus,
        config,
        venue=runtime.venue,
        web=lambda service: WebServer(service, config, mode=stack.mode.value),
        markets=stack.assets,
        has_quotes=stack.mode.is_wire,
    )


if __name__ == "__main__":
    run("dashboard", build)
