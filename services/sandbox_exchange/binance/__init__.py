"""Binance spot on the wire: REST, market streams, the ws-api with the user data stream.

In: a venue. Out: its routes. Never: an answer in another venue's words.
"""

from collections.abc import Sequence

from aiohttp import web

from services.sandbox_exchange.binance import usage
from services.sandbox_exchange.binance.endpoints import HTTP, WS_API
from services.sandbox_exchange.binance.feed import Feed
from services.sandbox_exchange.binance.market_socket import market_routes
from services.sandbox_exchange.binance.memory import Memory
from services.sandbox_exchange.binance.recording import RecordedStreams, market_of_recording
from services.sandbox_exchange.binance.reports import REPORTS
from services.sandbox_exchange.binance.rest import rest_routes
from services.sandbox_exchange.binance.stream_names import STREAM_ROUTES
from services.sandbox_exchange.binance.user_stream import UserStreams
from services.sandbox_exchange.binance.ws_api import api_routes
from services.sandbox_exchange.markets.recorded import RecordedMarket
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.fault_places import Places
from services.sandbox_exchange.wire.limits import Limits

__all__ = ["routes"]


def routes(
    venue: Venue, recorded: Sequence[RecordedMarket] = (), *, recorded_speed: float | None = 1.0
) -> Sequence[web.RouteDef]:
    """Return every route of a Binance spot venue, and set its limits and its places.

    `recorded` markets are listed when they are not yet, and played to whoever subscribes them, at `recorded_speed`
    recorded seconds a second (None: as fast as clients read).
    """
    venue.limits = Limits(usage.RULES)
    venue.places = Places(
        requests=(*HTTP, *WS_API), streams=(*STREAM_ROUTES, *REPORTS, "userDataStream"), sockets=("public", "ws-api")
    )
    for one in recorded:
        if one.symbol not in venue.exchange.markets:
            venue.exchange.list_market(market_of_recording(one))
    memory = Memory()
    venue.exchange.listen(memory.on_event)
    feed = Feed(venue, {one.symbol: RecordedStreams(one, recorded_speed) for one in recorded})
    users = UserStreams(venue, memory)
    sockets = [*market_routes(venue, feed), *api_routes(venue, feed, memory, users)]
    return [*rest_routes(venue, feed, memory), *sockets]
