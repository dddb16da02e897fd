"""The dashboard's settings."""

import msgspec


class DashboardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configure the page: where it listens, how often it pushes (seconds), how much it keeps.

    At its start it reads the newest `recall_max` messages of each stream, however long the stack has run.

    `venue_health_url` is where the stack's own sandbox exchange says how it does (`cascade up` knows it by itself).

    `allowed_hosts` are the host names that a browser may ask for; others are refused (DNS rebinding).
    """

    host: str = "127.0.0.1"
    port: int = 8080
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")
    push_interval_s: float = 0.5
    equity_points_max: int = 4_000
    decisions_max: int = 40
    recall_max: int = 20_000
    clients_max: int = 32
    venue_health_url: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must lie between 0 (take a free one) and 65535, got {self.port}")
        if not 0.1 <= self.push_interval_s <= 10:
            raise ValueError(f"push_interval_s must lie between 0.1 and 10 seconds, got {self.push_interval_s}")
        for name in ("equity_points_max", "decisions_max", "recall_max", "clients_max"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
