"""The venues that can be reached over a wire, by name.

In: how to reach one. Out: its public and its private side. Never: an adapter (and its libraries) loaded for nothing.
"""

from importlib import import_module
from typing import Protocol, cast

from shared.errors import ConfigError
from shared.exchange.live.config import WireConfig
from shared.exchange.port import VenueMarket, WireVenue

_ADAPTERS = {
    "mexc": ("shared.exchange.mexc", "MexcMarket", "MexcVenue"),
    "binance": ("shared.exchange.binance", "BinanceMarket", "BinanceVenue"),
}


class _MakeMarket(Protocol):
    def __call__(self, config: WireConfig) -> VenueMarket: ...


class _MakeVenue(Protocol):
    def __call__(self, config: WireConfig) -> WireVenue: ...


def make_market(config: WireConfig) -> VenueMarket:
    """Return the public side of a venue, not opened yet; raises ConfigError for one without an adapter."""
    return cast(_MakeMarket, _adapter(config.venue, 1))(config)


def make_venue(config: WireConfig) -> WireVenue:
    """Return the private side of a venue, not opened yet; raises ConfigError for one without an adapter."""
    return cast(_MakeVenue, _adapter(config.venue, 2))(config)


def _adapter(venue: str, place: int) -> object:
    names = _ADAPTERS.get(venue)
    if names is None:
        raise ConfigError(f"venue {venue!r} has no adapter: choose {' or '.join(_ADAPTERS)}")
    adapter: object = getattr(import_module(names[0]), names[place])
    return adapter
