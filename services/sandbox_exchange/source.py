"""Where the venue's markets come from, as its configuration says.

In: a configuration. Out: listed markets with a book before the first client comes, and their life from then on.
Never: a market that a restored state has moved on from set back.
"""

from decimal import Decimal
from typing import Protocol

import msgspec

from services.sandbox_exchange.config import NAME, SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.flow import grid_of
from services.sandbox_exchange.core.model import HOUSE, Market, OrderKind, PlaceOrder
from services.sandbox_exchange.markets.build import BackgroundMarket, MarketsConfig, make_markets, make_runner
from services.sandbox_exchange.markets.profiles import profile_of
from services.sandbox_exchange.wire.context import Venue
from shared.domain.instruments import ceil_to_grid, floor_to_grid
from shared.errors import ConfigError
from shared.messages import Side

FEES = {VenueName.MEXC: ("0", "0.0005"), VenueName.BINANCE: ("0.001", "0.001")}
BINANCE_NOTIONAL_MIN = Decimal(5)
# How many orders of one account may rest: MEXC counts all of them, Binance each market's.
ACCOUNT_ORDERS_MAX = {VenueName.MEXC: 500, VenueName.BINANCE: None}
MARKET_ORDERS_MAX = {VenueName.MEXC: None, VenueName.BINANCE: 200}
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


def make_source(config: SandboxConfig, venue: Venue, *, run: int = 0) -> MarketSource:
    """List the configured markets and return what moves them; `run` counts restarts, so that chance goes on.

    Raises ConfigError and InputError for a file that cannot be used.
    """
    exchange = venue.exchange
    if config.source is Source.STILL:
        for profile in (profile_of(symbol, seed=config.seed) for symbol in config.markets):
            if profile.market.symbol not in exchange.markets:
                exchange.list_market(on_terms_of(config.venue, profile.market))
        return StillSource(config, venue)
    made = make_markets(_markets_config(config), config.markets, run=run) if config.markets else ()
    background: list[BackgroundMarket] = []
    for one in made:
        market = exchange.markets.get(one.market.symbol) or on_terms_of(config.venue, one.market)
        one.flow.change_grid(grid_of(market), 1.0)
        background.append(BackgroundMarket(market, one.flow))
    return make_runner(exchange, background, now_ns=venue.now_ns)


def on_terms_of(venue: VenueName, market: Market) -> Market:
    """Return the market with the venue's fees, least order and most orders."""
    maker, taker = FEES[venue]
    instrument = market.instrument
    if venue is VenueName.BINANCE and instrument.quote == "USDT":
        instrument = msgspec.structs.replace(instrument, notional_min=BINANCE_NOTIONAL_MIN)
    return msgspec.structs.replace(
        market,
        instrument=instrument,
        maker_rate=Decimal(maker),
        taker_rate=Decimal(taker),
        orders_max=MARKET_ORDERS_MAX[venue],
    )


def _markets_config(config: SandboxConfig) -> MarketsConfig:
    wanted: dict[str, object] = {"seed": config.seed}
    if config.source is Source.CANDLES:
        wanted["candles"] = config.candles
    if config.speed is not None and config.source is not Source.RECORDED:
        wanted["speed" if config.source is Source.CANDLES else "time_factor"] = config.speed
    try:
        return msgspec.convert(wanted, MarketsConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{NAME}: speed: {error}") from error


class StillSource:
    """Rest a book of the house around the first price, and let nobody but the clients and the admin move it."""

    def __init__(self, config: SandboxConfig, venue: Venue) -> None:
        self._config, self._venue = config, venue
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Rest the house's orders where none are yet."""
        exchange = self._venue.exchange
        for symbol in self._config.markets:
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
