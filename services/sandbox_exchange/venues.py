"""Which wire protocol each venue's name stands for."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from aiohttp import web

from services.sandbox_exchange.config import SandboxConfig, VenueName
from services.sandbox_exchange.markets.recorded import load_recorded
from services.sandbox_exchange.wire.context import Venue


def routes_of(config: SandboxConfig, venue: Venue) -> Sequence[web.RouteDef]:
    """Return the venue's routes: REST, public streams, user streams. Lists the market of a recording.

    Raises InputError for a recording that cannot be used.
    """
    # One process speaks for one venue, so that the other's words are not imported.
    if config.venue is VenueName.MEXC:
        with _ccxt_unopened():
            from services.sandbox_exchange import mexc  # noqa: PLC0415 - see above

        return mexc.routes(venue)
    from services.sandbox_exchange import binance  # noqa: PLC0415 - see above

    if config.recorded is None:
        return binance.routes(venue)
    speed = 1.0 if config.speed is None else config.speed or None
    return binance.routes(venue, [load_recorded(Path(config.recorded))], recorded_speed=speed)


@contextlib.contextmanager
def _ccxt_unopened() -> Iterator[None]:
    """Let the classes of MEXC's frames be imported out of ccxt without ccxt itself.

    The package's own `__init__` imports a hundred exchanges: two seconds and 80 MB that a sandbox never uses.
    """
    spec = importlib.util.find_spec("ccxt")
    if "ccxt" in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    stand_in = ModuleType("ccxt")
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules["ccxt"] = stand_in
    try:
        yield
    finally:
        # Whoever wants ccxt later gets the real one.
        if sys.modules.get("ccxt") is stand_in:
            del sys.modules["ccxt"]
