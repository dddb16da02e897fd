"""Which wire protocol each venue's name stands for."""

from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from services.sandbox_exchange.config import SandboxConfig, VenueName
from services.sandbox_exchange.markets.recorded import load_recorded
from services.sandbox_exchange.wire.context import Venue


def routes_of(config: SandboxConfig, venue: Venue) -> Sequence[web.RouteDef]:
    """Return the venue's routes: REST, public streams, user streams. Lists the market of a recording.

    Raises InputError for a recording that cannot be used.
    """
    # One process speaks for one venue, and MEXC's frames take a second to import.
    if config.venue is VenueName.MEXC:
        from services.sandbox_exchange import mexc  # noqa: PLC0415 - see above

        return mexc.routes(venue)
    from services.sandbox_exchange import binance  # noqa: PLC0415 - see above

    if config.recorded is None:
        return binance.routes(venue)
    speed = 1.0 if config.speed is None else config.speed or None
    return binance.routes(venue, [load_recorded(Path(config.recorded))], recorded_speed=speed)
