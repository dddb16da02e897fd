"""Where the venue's markets come from, as its configuration says.

In: a configuration. Out: listed markets with a book before the first client comes, and their life from then on.
Never: a market that a restored state has moved on from set back.
"""

import zlib
from decimal import Decimal
from typing import Protocol

import msgspec
import numpy as np

from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.flow import grid_of
from services.sandbox_exchange.core.flow_market import MarketFlow
from services.sandbox_exchange.core.flow_synthetic import SyntheticPrice
from services.sandbox_exchange.core.model import HOUSE, Market, OrderKind, PlaceOrder
from services.sandbox_exchange.markets.profiles import profile_of
from services.sandbox_exchange.markets.runner import MarketRunner
from services.sandbox_exchange.wire.context import Venue
from shared.domain.instruments import ceil_to_grid, floor_to_grid
from shared.messages import Side

FEES = {VenueName.MEXC: ("0", "0.0005"), VenueName.BINANCE: ("0.001", "0.001")}
BINANCE_NOTIONAL_MIN = Decimal(5)
STILL_LEVELS = 20
STILL_SPACING = Decimal("0.0005")
STILL_NOTIONAL = Decimal(1000)


class MarketSource(Protocol):
    """Be what moves the markets."""

    async def start(self) -> None:
        """Fill the books, and move them from then on."""
        ...

    async def stop(self) -> None:
        """Move them no more. Raises what broke them, if anything did."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """Return what ended the markets, or None."""
        ...

    def dump(self) -> bytes:
        """Return what a restart needs to go on, besides the exchange's own state."""
        ...

    def restore(self, state: bytes) -> None:
        """Go on from `dump`; called before `start`."""
        ...


def list_markets(config: SandboxConfig, venue: Venue) -> None:
    """List the configured markets that the venue does not list yet."""
    for symbol in config.symbols:
        if symbol not in venue.exchange.markets:
            venue.exchange.list_market(describe(symbol, config))


def describe(symbol: str, config: SandboxConfig) -> Market:
    """Return a market's description, with the venue's fees and least order."""
    market = profile_of(symbol, seed=config.seed).market
    maker, taker = FEES[config.venue]
    instrument = market.instrument
    if config.venue is VenueName.BINANCE and instrument.quote == "USDT":
        instrument = msgspec.structs.replace(instrument, notional_min=BINANCE_NOTIONAL_MIN)
    return msgspec.structs.replace(market, instrument=instrument, maker_rate=Decimal(maker), taker_rate=Decimal(taker))


def make_source(config: SandboxConfig, venue: Venue) -> MarketSource:
    """Return the configured source for markets that are listed. Raises InputError for a file that cannot be used."""
    if config.source is Source.STILL:
        return StillSource(config, venue)
    flows = {symbol: _synthetic(symbol, config, venue) for symbol in config.symbols}
    return MarketRunner(venue.exchange, flows, now_ns=venue.now_ns)


class StillSource:
    """Rest a book of the house around the first price, and let nobody but the clients and the admin move it."""

    def __init__(self, config: SandboxConfig, venue: Venue) -> None:
        self._config, self._venue = config, venue
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Rest the house's orders where none are yet."""
        exchange = self._venue.exchange
        for symbol in self._config.symbols:
            book = exchange.depth(symbol, 1)
            if not book.bids and not book.asks:
                price = profile_of(symbol, seed=self._config.seed).price
                for order in _still_orders(exchange.markets[symbol], price):
                    exchange.place(order, self._venue.now_ns())

    async def stop(self) -> None:
        """Do nothing."""

    def dump(self) -> bytes:
        """Return nothing: the books are the exchange's."""
        return b""

    def restore(self, state: bytes) -> None:
        """Do nothing."""


def _synthetic(symbol: str, config: SandboxConfig, venue: Venue) -> MarketFlow:
    profile, market = profile_of(symbol, seed=config.seed), venue.exchange.markets[symbol]
    draw = np.random.default_rng([config.seed, zlib.crc32(symbol.encode())])
    ticks = float(profile.price / market.instrument.tick_size)
    path = SyntheticPrice(profile.path, ticks, draw, time_factor=config.speed or 1.0)
    return MarketFlow(profile.flow, grid_of(market), path, draw)


def _still_orders(market: Market, price: Decimal) -> list[PlaceOrder]:
    grid = market.instrument
    orders: list[PlaceOrder] = []
    for level in range(1, STILL_LEVELS + 1):
        for side, factor in ((Side.BUY, 1 - level * STILL_SPACING), (Side.SELL, 1 + level * STILL_SPACING)):
            round_to_grid = floor_to_grid if side is Side.BUY else ceil_to_grid
            at = round_to_grid(price * factor, grid.tick_size)
            quantity = max(floor_to_grid(STILL_NOTIONAL / price, grid.step_size), grid.quantity_min)
            orders.append(PlaceOrder(HOUSE, market.symbol, side, OrderKind.LIMIT, quantity=quantity, price=at))
    return orders
