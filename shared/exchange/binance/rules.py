"""What a Binance market takes, from its filters. Pure.

In: a symbol of `GET /api/v3/exchangeInfo`. Out: the market's rules. Never: a default for a missing tick or step.
"""

from decimal import Decimal

import msgspec

from shared.domain.money import plain
from shared.errors import ConfigError
from shared.exchange.live.filters import MarketRules
from shared.messages import Instrument, Side

SPOT = "SPOT"


class Filter(msgspec.Struct, rename="camel"):
    """Hold one filter; only the fields of its kind are set."""

    filter_type: str
    tick_size: Decimal | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    step_size: Decimal | None = None
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None
    min_notional: Decimal | None = None
    max_notional: Decimal | None = None


class SymbolInfo(msgspec.Struct, rename="camel"):
    """Describe a market as Binance does."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    quote_asset_precision: int
    filters: tuple[Filter, ...]
    order_types: tuple[str, ...] = ()
    is_spot_trading_allowed: bool = True
    quote_order_qty_market_allowed: bool = True


class ExchangeInfo(msgspec.Struct, rename="camel"):
    """List markets."""

    symbols: tuple[SymbolInfo, ...]


def rules_of(info: SymbolInfo) -> MarketRules:
    """Return the market's rules. Raises ConfigError for a market without a tick or a step."""
    filters = {one.filter_type: one for one in info.filters}
    price = filters.get("PRICE_FILTER")
    lot = filters.get("LOT_SIZE")
    tick, step = price and price.tick_size, lot and lot.step_size
    if price is None or lot is None or not tick or not step:
        raise ConfigError(f"binance gives no tick or step for {info.symbol}: it cannot be traded safely, leave it out")
    market_lot = filters.get("MARKET_LOT_SIZE", Filter("MARKET_LOT_SIZE"))
    # NOTIONAL took the place of MIN_NOTIONAL; a market has one of them.
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or Filter("NOTIONAL")
    takes_market_orders = "MARKET" in info.order_types
    by_quote = frozenset(Side) if takes_market_orders and info.quote_order_qty_market_allowed else frozenset[Side]()
    instrument = Instrument(
        symbol=f"{info.base_asset}-{info.quote_asset}",
        base=info.base_asset,
        quote=info.quote_asset,
        tick_size=_short(tick),
        step_size=_short(step),
        quantity_min=_short(lot.min_qty or Decimal(0)),
        notional_min=_short(notional.min_notional or Decimal(0)),
    )
    return MarketRules(
        instrument=instrument,
        quote_step=Decimal(1).scaleb(-info.quote_asset_precision),
        quantity_max=lot.max_qty or None,
        market_quantity_min=market_lot.min_qty or None,
        market_quantity_max=market_lot.max_qty or None,
        notional_max=notional.max_notional or None,
        price_min=price.min_price or None,
        price_max=price.max_price or None,
        is_trading=info.status == "TRADING" and info.is_spot_trading_allowed,
        status=info.status,
        takes_market_orders=takes_market_orders,
        quote_amount_sides=by_quote,
    )


def _short(value: Decimal) -> Decimal:
    # The venue fills up with zeros: they would show in every text.
    return Decimal(plain(value))
