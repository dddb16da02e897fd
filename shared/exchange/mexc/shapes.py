"""What MEXC's REST answers look like, as far as we read them; anything else is no answer.

In: JSON. Out: typed records. Never: an id that is none, a number through binary floating point where money is meant.
"""

from decimal import Decimal

import msgspec

from shared.exchange.live.filters import MarketRules
from shared.exchange.mexc.words import SIDE_TYPES, TRADING_STATUSES
from shared.messages import Instrument, Side

QUOTE_STEP_MIN = Decimal("1E-8")
Id = str | int


class ServerTime(msgspec.Struct, frozen=True, rename="camel"):
    """State the venue's time in milliseconds."""

    server_time: int


class SymbolInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Describe a market; an unknown or empty bound is None."""

    symbol: str
    status: str | int
    base_asset: str
    quote_asset: str
    base_asset_precision: int
    quote_asset_precision: int
    base_size_precision: Decimal
    quote_amount_precision: Decimal
    is_spot_trading_allowed: bool = True
    max_quote_amount: Decimal | None = None
    quote_amount_precision_market: Decimal | None = None
    max_quote_amount_market: Decimal | None = None
    order_types: tuple[str, ...] = ()
    trade_side_type: str | int | None = None


class ExchangeInfo(msgspec.Struct, frozen=True):
    """List the markets, each as a `SymbolInfo` in JSON: MEXC lists some without a precision among thousands."""

    symbols: tuple[msgspec.Raw, ...]


class DepthInfo(msgspec.Struct, frozen=True, rename="camel"):
    """State a book; texts, best first."""

    last_update_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class BalanceInfo(msgspec.Struct, frozen=True):
    """State what is held of an asset."""

    asset: str
    free: Decimal
    locked: Decimal


class AccountInfo(msgspec.Struct, frozen=True, rename="camel"):
    """State an account; what it does not say of its permissions is None."""

    balances: tuple[BalanceInfo, ...]
    can_trade: bool | None = None
    can_withdraw: bool | None = None


class CreatedInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Acknowledge an order; MEXC says neither its state nor its client order id."""

    symbol: str
    order_id: Id
    transact_time: int | None = None


class CanceledInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Acknowledge a cancel. How the order stands is asked for: what comes with it may be older."""

    symbol: str
    order_id: Id


class OrderInfo(msgspec.Struct, frozen=True, rename="camel"):
    """State an order."""

    symbol: str
    order_id: Id
    price: Decimal
    orig_qty: Decimal
    executed_qty: Decimal
    cummulative_quote_qty: Decimal
    status: str
    type: str
    side: str
    time: int
    client_order_id: str | None = None
    update_time: int | None = None
    orig_quote_order_qty: Decimal | None = None


class TradeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """State one of our executions."""

    symbol: str
    id: Id
    order_id: Id
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool
    client_order_id: str | None = None


class PublicTradeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """State a trade of a market; MEXC gives it no id."""

    price: float
    qty: float
    time: int
    is_buyer_maker: bool


class ListenKey(msgspec.Struct, frozen=True, rename="camel"):
    """Open the account's stream."""

    listen_key: str


class Refusal(msgspec.Struct, frozen=True):
    """Say no."""

    code: int
    msg: str = ""


def rules_of(info: SymbolInfo) -> MarketRules:
    """Return what a market takes. The bus token is made of the venue's own asset names, never of ccxt's.

    `baseSizePrecision` is the least quantity, `quoteAmountPrecision` the least notional.
    """
    tick = Decimal(1).scaleb(-info.quote_asset_precision)
    status, sides = str(info.status), SIDE_TYPES.get(str(info.trade_side_type or "1"), frozenset[Side]())
    instrument = Instrument(
        symbol=f"{info.base_asset}-{info.quote_asset}",
        base=info.base_asset,
        quote=info.quote_asset,
        tick_size=tick,
        step_size=Decimal(1).scaleb(-info.base_asset_precision),
        quantity_min=info.base_size_precision,
        notional_min=info.quote_amount_precision,
    )
    return MarketRules(
        instrument=instrument,
        quote_step=max(tick, QUOTE_STEP_MIN),
        notional_max=info.max_quote_amount or None,
        market_notional_max=info.max_quote_amount_market or None,
        is_trading=status in TRADING_STATUSES and info.is_spot_trading_allowed,
        status=status if info.is_spot_trading_allowed else f"{status}, spot trading not allowed",
        sides=sides,
        takes_market_orders=not info.order_types or "MARKET" in info.order_types,
        quote_amount_sides=frozenset({Side.BUY}),
    )
