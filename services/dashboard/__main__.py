"""Run the dashboard."""

from services.dashboard.config import DashboardConfig
from services.dashboard.service import DashboardService
from services.dashboard.venue_watch import NAME, VenueWatch
from services.dashboard.web import WebServer
from shared.config import Mode, Settings
from shared.lifecycle import Runtime, run


def venue_health_url(settings: Settings, config: DashboardConfig) -> str | None:
    """Return where the stack's own sandbox exchange answers, or None where the stack has none."""
    if settings.stack.mode is not Mode.SANDBOX:
        return None
    table = settings.tree.get(NAME)
    port = table.get("admin_port") if isinstance(table, dict) else None
    return config.venue_health_url or (f"http://127.0.0.1:{port}/readyz" if port else None)


async def build(runtime: Runtime) -> DashboardService:
    """Compose the service from its runtime."""
    config = runtime.settings.section("dashboard", DashboardConfig)
    stack = runtime.settings.stack
    url = venue_health_url(runtime.settings, config)
    return DashboardService(
        runtime.bus,
        config,
        venue=runtime.venue,
        web=lambda service: WebServer(service, config, mode=stack.mode.value),
        markets=stack.assets,
        has_quotes=stack.mode.is_wire,
        watch=None if url is None else VenueWatch(url),
    )


if __name__ == "__main__":
    run("dashboard", build)
