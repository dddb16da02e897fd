"""MEXC spot's wire: signed REST, protobuf streams, private streams by listen key, with MEXC's own refusals.

In: requests and subscriptions of clients. Out: what the exchange says, in MEXC's words, faults included.
Never: an order of its own; a look past the exchange's port.
"""

from collections.abc import Sequence

from aiohttp import web

from services.sandbox_exchange.mexc import rest_account, rest_markets, rest_orders
from services.sandbox_exchange.mexc.channels import ChannelKind
from services.sandbox_exchange.mexc.rest import RULES, route_def
from services.sandbox_exchange.mexc.state import MexcState
from services.sandbox_exchange.mexc.stream import stream_route
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.fault_places import Places
from services.sandbox_exchange.wire.limits import Limits

ENDPOINTS = (*rest_markets.ENDPOINTS, *rest_orders.ENDPOINTS, *rest_account.ENDPOINTS)


def routes(venue: Venue) -> Sequence[web.RouteDef]:
    """Return the routes of a venue that speaks MEXC's protocol; sets its places, and its limits where it has none."""
    if not venue.limits.rules:
        venue.limits = Limits(RULES)
    venue.places = Places(
        requests=tuple(f"{one.method} {one.path}" for one in ENDPOINTS),
        streams=tuple(f"spot@{kind}" for kind in ChannelKind),
        sockets=("public", "user"),
    )
    state = MexcState(venue)
    return [*(route_def(state, endpoint) for endpoint in ENDPOINTS), stream_route(state)]
