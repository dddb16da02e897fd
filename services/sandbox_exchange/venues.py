"""Which wire protocol each venue's name stands for."""

import importlib
from collections.abc import Callable, Sequence

from aiohttp import web

from services.sandbox_exchange.config import VenueName
from services.sandbox_exchange.wire.context import Venue

Routes = Callable[[Venue], Sequence[web.RouteDef]]


def routes_of(name: VenueName) -> Routes:
    """Return what makes the venue's routes: REST, public streams, user streams."""
    module = importlib.import_module(f"services.sandbox_exchange.{name}")
    return getattr(module, "routes", lambda _: [])
